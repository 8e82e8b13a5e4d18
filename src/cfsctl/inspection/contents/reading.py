"""The content of the files of a tree: from the image, or from verified objects."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.inspection.contents.place import is_file
from cfsctl.inspection.diff import TYPE_NAMES
from cfsctl.repository.objects.content import iter_verified, open_verified
from cfsctl.tree.lookup import TreePathError
from cfsctl.tree.model import ExternalFile, InlineFile, SparseFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.inspection.contents.place import Place
    from cfsctl.inspection.diff import File
    from cfsctl.repository.objects.reader import ObjectReader

_ZEROS: Final = bytes(1 << 16)


class ContentUnavailableError(CfsError):
    """A file whose content is not in the repository, or of which nothing says where it is."""

    exit_code = ExitCode.NOT_FOUND


class ContentReader:
    """Reads the content of files."""

    def __init__(self, open_objects: Callable[[], ObjectReader]) -> None:
        """Open nothing yet.

        Args:
            open_objects: Returns the objects of the repository; called for files whose content is one.
        """
        self._open_objects = open_objects

    def open(self, file: ExternalFile) -> int:
        """Return a descriptor of the verified content of a file, which the caller owns.

        Raises:
            ObjectMissingError, IntegrityError: The object is missing or damaged.
        """
        return open_verified(self._open_objects(), file.object_id, file.size)

    def iter_content(self, path: bytes, file: File) -> Iterator[bytes]:
        """Yield the content of a file in pieces, nothing of it before all of it is verified.

        Raises:
            ContentUnavailableError: Nothing says where the content is.
            ObjectMissingError, IntegrityError: The object is missing or damaged.
        """
        match file:
            case InlineFile():
                yield file.data
            case ExternalFile():
                yield from iter_verified(self._open_objects(), file.object_id, file.size)
            case SparseFile():
                for start in range(0, file.size, len(_ZEROS)):
                    yield _ZEROS[: file.size - start]
            case _:
                raise unavailable(path)


def unavailable(path: bytes) -> ContentUnavailableError:
    """Return the error for a file whose content is at a path outside of any repository."""
    return ContentUnavailableError(
        f"{os.fsdecode(path)}: its content is not an object of a repository; the image names another place"
    )


def file_at(place: Place) -> File:
    """Return the file at a place.

    Raises:
        TreePathError: It is not a regular file.
    """
    node = place.node
    if not is_file(node):
        found = TYPE_NAMES[node.file_type]
        raise TreePathError(f"{os.fsdecode(place.path)}: expected a file, found a {found}")
    return node
