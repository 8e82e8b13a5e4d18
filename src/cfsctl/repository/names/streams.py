"""Named streams: content identifiers, refs to them, and the splitstreams behind both."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import IntegrityError, RefNotFoundError
from cfsctl.repository.names.links import LinkDirectory, Ref
from cfsctl.repository.names.names import (
    REFS,
    check_entry,
    check_ref,
    parse_object_link,
    parse_stream_name,
    ref_link_text,
    suggest,
)
from cfsctl.repository.names.short_ids import AmbiguousIdError, parse_short_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.repository.objects.store import ObjectStore
    from cfsctl.splitstream import SplitstreamReader

STREAMS: Final = "streams"
_IDENTIFIER: Final = re.compile(r"[a-z][a-z-]*-(?:sha(?:256|512):)?[0-9a-f]{4,128}")
"""A content identifier with an ID at its end, of which a part may be missing."""
_MAX_LISTED: Final = 8
_LIST_HINT: Final = "`cfsctl stats` lists what has a name"


def _digits_of(name: str) -> str:
    """Return the ID at the end of a content identifier."""
    return name.rpartition("-")[2].rpartition(":")[2]


class DamagedLinkError(IntegrityError):
    """A link in the repository whose text is not what this program or the original would write."""


class Stream(NamedTuple):
    """A stream as it is listed.

    Attributes:
        name: Its content identifier.
        object_id: The splitstream object.
    """

    name: str
    object_id: ObjectID


def read_object_link(category: LinkDirectory, entry: str, algorithm: Algorithm) -> ObjectID | None:
    """Return the object that an entry names, or None if there is no such entry.

    Raises:
        DamagedLinkError: The entry's link does not name an object of this algorithm.
    """
    text = category.read_entry(entry)
    if text is None:
        return None
    object_id = parse_object_link(text, algorithm)
    if object_id is None:
        raise DamagedLinkError(
            f"{category.name}/{entry}: expected a link to a {algorithm.hash_name} object, found {text!r}"
        )
    return object_id


def read_ref_entry(category: LinkDirectory, ref: str) -> str | None:
    """Return the entry that a ref names, or None if there is no such ref.

    Raises:
        DamagedLinkError: The ref's link leads elsewhere than to an entry of its category.
    """
    text = category.read_ref(ref)
    if text is None:
        return None
    entry = Ref(ref, text).entry
    if entry is None or text != ref_link_text(ref, entry):
        raise DamagedLinkError(f"{category.name}/refs/{ref}: expected a link to an entry, found {text!r}")
    return entry


class Streams:
    """The streams of one repository.

    Attributes:
        links: The entries and refs themselves.
    """

    def __init__(self, dirfd: int, objects: ObjectStore, check_writable: Callable[[], None]) -> None:
        """Prepare; no system call is made yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            objects: The repository's objects.
            check_writable: Raises if nothing may be written.
        """
        self.links = LinkDirectory(dirfd, STREAMS, check_writable)
        self._objects = objects

    def find(self, name: str) -> ObjectID | None:
        """Return the splitstream object that a name stands for, or None; the object is not checked.

        Args:
            name: A content identifier, ``refs/<ref>``, or a ref.

        Raises:
            InvalidNameError: It cannot be the name of a stream.
            DamagedLinkError: It leads to something else than an object.
        """
        entry, ref = parse_stream_name(name)
        if entry is not None:
            object_id = read_object_link(self.links, entry, self._objects.algorithm)
            if object_id is not None:
                return object_id
        entry = read_ref_entry(self.links, ref) if ref is not None else None
        return None if entry is None else read_object_link(self.links, entry, self._objects.algorithm)

    def find_typed(self, name: str) -> ObjectID | None:
        """Return what `find` does, also for what only users type: the beginning of an ID.

        Raises:
            InvalidNameError, DamagedLinkError: As `find`.
            AmbiguousIdError: It is a prefix of more than one ID.
        """
        object_id = self.find(name)
        entry = self.find_short_entry(name) if object_id is None else None
        return object_id if entry is None else read_object_link(self.links, entry, self._objects.algorithm)

    def find_short_entry(self, text: str) -> str | None:
        """Return the only stream that a text is the beginning of, or None.

        Args:
            text: The beginning of a content identifier that has enough digits of its ID, of this ID alone, or
                of the ID of the stream's object.

        Raises:
            AmbiguousIdError: More than one begins so.
        """
        names = self.links.list_names()
        short = parse_short_id(text)
        if short is None:
            found = [name for name in names if name.startswith(text)] if _IDENTIFIER.fullmatch(text) else []
        else:
            found = [name for name in names if _digits_of(name).startswith(short.digits)]
        if short is not None and not found:
            streams = self.list_streams()
            found = [one.name for one in streams if one.object_id.hex().startswith(short.digits)]
        if len(found) > 1:
            raise AmbiguousIdError(
                f"ambiguous stream '{text}': {len(found)} match: {', '.join(sorted(found)[:_MAX_LISTED])}",
                hint="type more digits",
            )
        return found[0] if found else None

    def open(self, name: str, content_type: int | None = None) -> SplitstreamReader:
        """Open a stream by its name.

        Args:
            name: A content identifier, ``refs/<ref>``, or a ref.
            content_type: What the stream must hold, or None for anything.

        Raises:
            RefNotFoundError: There is no such stream.
            SplitstreamError: The object is not a splitstream, or of another type.
            IntegrityError: The object is missing, or not what its name says.
        """
        object_id = self.find(name)
        if object_id is None:
            known = (f"{REFS}/{ref.name}" for ref in self.list_refs())
            raise RefNotFoundError(f"stream not found: {name}", hint=suggest(name, known) or _LIST_HINT)
        return self.open_object(object_id, content_type)

    def open_object(
        self, object_id: ObjectID, content_type: int | None = None, *, lists_objects: bool = True
    ) -> SplitstreamReader:
        """Open a splitstream by its object ID; see `open`, and `SplitstreamReader` for `lists_objects`."""
        from cfsctl.splitstream import SplitstreamReader  # brings the decompressor along

        fd = self._objects.open(object_id)
        return SplitstreamReader(fd, self._objects.algorithm, content_type, lists_objects=lists_objects)

    def cat(self, name: str, write: Callable[[bytes | memoryview], object]) -> None:
        """Restore the content of a stream and pass it on.

        Args:
            name: A content identifier, ``refs/<ref>``, a ref, or the beginning of an ID.
            write: Takes the next bytes.

        Raises:
            RefNotFoundError: There is no such stream.
            SplitstreamError: The object is not a splitstream, or its parts do not add up.
            IntegrityError: An object is missing, or not what its name says.
        """
        object_id = self.find_typed(name)
        with self.open(name) if object_id is None else self.open_object(object_id) as stream:
            stream.cat(write, self._objects.open)

    def list_streams(self) -> list[Stream]:
        """Return all streams, sorted by name; entries that are not links to objects are skipped."""
        algorithm = self._objects.algorithm
        found = [
            (entry.path, parse_object_link(entry.text or "", algorithm))
            for entry in self.links.iter_entries()
        ]
        return [Stream(name, object_id) for name, object_id in found if object_id is not None]

    def link(self, name: str, object_id: ObjectID, ref: str | None = None) -> None:
        """Name a stored splitstream, in place of what had the name before.

        Everything that the stream refers to must be stored and behind the barrier.

        Args:
            name: Content identifier.
            object_id: The splitstream object.
            ref: A ref to move to it as well, or None.

        Raises:
            InvalidNameError: A name cannot be one here; nothing has changed.
        """
        check_entry(name, "stream name")
        if ref is not None:
            check_ref(ref)
        self.links.set_entry(name, object_id)
        if ref is not None:
            self.links.set_ref(ref, name)

    def set_ref(self, ref: str, name: str) -> None:
        """Make a ref name a stream that exists.

        Raises:
            RefNotFoundError: There is no such stream.
        """
        check_ref(ref)
        if self.links.read_entry(name) is None:
            raise RefNotFoundError(f"stream not found: {name}")
        self.links.set_ref(ref, name)

    def remove_ref(self, ref: str) -> None:
        """Remove a ref; the stream stays until it is collected.

        Raises:
            RefNotFoundError: There is no such ref.
        """
        self.links.remove_ref(ref)

    def list_refs(self, prefix: str = "") -> list[Ref]:
        """Return all refs below a directory of refs, sorted; names are relative to it."""
        return self.links.list_refs(prefix)
