"""Tags: names that users give to streams of one kind, each one link in one directory of refs.

streams/refs/<directory>/<escaped>    ``%`` is written ``%25`` and ``/`` is written ``%2F``
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar

from cfsctl.repository.names.names import MAX_COMPONENT_BYTES, InvalidNameError
from cfsctl.repository.names.streams import read_ref_entry

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.repository.names.streams import Streams

T = TypeVar("T")

_ESCAPE: Final = re.compile(r"%2F|%25")


def escape_tag(name: str) -> str:
    """Return a tag's name as one component of a path."""
    return name.replace("%", "%25").replace("/", "%2F")


def unescape_tag(text: str) -> str:
    """Return the name of a tag from its component of a path; other ``%`` stay as they are."""
    return _ESCAPE.sub(lambda match: "/" if match[0] == "%2F" else "%", text)


class Tag(NamedTuple, Generic[T]):
    """A tag.

    Attributes:
        name: Its name, not escaped.
        target: What it names, which may be gone.
    """

    name: str
    target: T


class TagNamespace(Generic[T]):
    """The tags of one directory."""

    def __init__(
        self, directory: str, parse_entry: Callable[[str], T | None], *, lists_nested: bool = False
    ) -> None:
        """Make no call to the system.

        Args:
            directory: Component below ``refs``.
            parse_entry: Returns what the name of a stream stands for, or None for streams of other kinds.
            lists_nested: Whether links in directories below are listed, although no name leads to them.
        """
        self._lists_nested = lists_nested
        self._directory = directory
        self._parse_entry = parse_entry

    def ref(self, name: str) -> str:
        """Return the stream ref that a tag is.

        Raises:
            InvalidNameError: The name is empty, ``.`` or ``..``, or too long for a file name.
        """
        escaped = escape_tag(name)
        if name in {"", ".", ".."} or "\0" in name:
            raise InvalidNameError(f"{name!r} cannot be the name of a tag")
        size = len(escaped.encode("utf-8", "surrogateescape"))
        if size > MAX_COMPONENT_BYTES:
            raise InvalidNameError(
                f"tag {name[:40]!r}...: expected at most {MAX_COMPONENT_BYTES} bytes with its escapes,"
                f" found {size}"
            )
        return f"{self._directory}/{escaped}"

    def name_of(self, ref: str) -> str | None:
        """Return the tag that a ref is, or None if it is not a tag of this directory."""
        directory, _, name = ref.rpartition("/")
        return unescape_tag(name) if name and directory == self._directory else None

    def list(self, streams: Streams) -> list[Tag[T]]:
        """Return all tags, sorted by name; links to anything but a stream of this kind are skipped."""
        found = []
        for ref in streams.list_refs(self._directory):
            target = None if ref.entry is None else self._parse_entry(ref.entry)
            if target is not None and (self._lists_nested or "/" not in ref.name):
                found.append(Tag(unescape_tag(ref.name), target))
        return sorted(found, key=lambda tag: tag.name)

    def find(self, streams: Streams, name: str) -> T | None:
        """Return what a tag names, or None if there is no such tag; what it names may be gone.

        Raises:
            InvalidNameError: The name cannot be one.
            DamagedLinkError: It leads elsewhere than to a stream.
        """
        entry = read_ref_entry(streams.links, self.ref(name))
        return None if entry is None else self._parse_entry(entry)
