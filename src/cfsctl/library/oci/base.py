"""The base of all that is done with the OCI images of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.opened import store_of

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.library.images import ImageMethods
    from cfsctl.repository import Repository as Store


class OciBase:
    """An open repository, seen as a store of OCI images."""

    def __init__(self, repository: ImageMethods) -> None:
        """Wrap an open repository, which stays open as long as its owner keeps it open."""
        self._repository = repository

    def __repr__(self) -> str:
        """Return what it belongs to."""
        return f"<{type(self).__name__} of {self._repository!r}>"

    @property
    def _store(self) -> Store:
        """The open repository of the room below.

        Raises:
            ValueError: It is closed.
        """
        return store_of(self._repository)


def parse_stream_id(algorithm: Algorithm, text: str | None) -> ObjectID | None:
    """Return the ID of a stream that a text writes, or None if there is no text.

    Raises:
        DigestFormatError: It is not an ID.
    """
    from cfsctl.digest import parse_object_id

    return None if text is None else parse_object_id(text.lower(), algorithm)
