"""Objects that are many or large: what is small is in memory, the rest in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, NamedTuple, overload

from cfsctl.digest import Checksum
from cfsctl.linux.files import write_all
from cfsctl.ostree.objects.stored_content import StoredContent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import TypeVar

    from cfsctl.digest import ObjectID
    from cfsctl.splitstream.spool import ObjectSink, ObjectWriter

    T = TypeVar("T")

MAX_HELD_BYTES: Final = 16 << 20
"""Bytes of data that are kept in memory; those of real commits are."""

_MIN_WRITTEN_BYTES: Final = 512
"""Smaller data stay in memory: to remember where they are would take as much."""


class Place(NamedTuple):
    """Where the data of an object are in a file, and the ID of content that is an object."""

    offset: int
    size: int
    object_id: ObjectID | None


class PlacedObjects(Mapping[Checksum, StoredContent]):
    """Objects by checksum, of which some are in a file; these are read whenever they are asked for."""

    __slots__ = ("_entries", "_fd")

    def __init__(self, fd: int = -1) -> None:
        """Begin empty; the descriptor is borrowed."""
        self._entries: dict[Checksum, StoredContent | Place] = {}
        self._fd = fd

    def put(self, checksum: Checksum, entry: StoredContent | Place) -> None:
        """Take an object, or where it is."""
        self._entries[checksum] = entry

    @overload
    def get(self, checksum: Checksum, default: None = None, /) -> StoredContent | None: ...
    @overload
    def get(self, checksum: Checksum, default: StoredContent | T, /) -> StoredContent | T: ...
    def get(
        self, checksum: Checksum, default: StoredContent | T | None = None, /
    ) -> StoredContent | T | None:
        """Return the data of an object and the ID of content that is an object, or the default."""
        found = self._entries.get(checksum)
        if found is None:
            return default
        return self._read(found) if isinstance(found, Place) else found

    def __getitem__(self, checksum: Checksum) -> StoredContent:
        """Return the data of an object, and the ID of content that is an object."""
        found = self._entries[checksum]
        return self._read(found) if isinstance(found, Place) else found

    def _read(self, place: Place) -> StoredContent:
        data = os.pread(self._fd, place.size, place.offset)
        if len(data) != place.size:
            raise RuntimeError(f"file of objects: expected {place.size} bytes, found {len(data)}")
        return data, place.object_id

    def iter_ids(self) -> Iterator[tuple[Checksum, ObjectID | None]]:
        """Yield each object with the ID of content that is an object; no data are read."""
        for checksum, found in self._entries.items():
            yield checksum, found.object_id if isinstance(found, Place) else found[1]

    def __contains__(self, checksum: object) -> bool:
        """Return whether an object is here."""
        return checksum in self._entries

    def __iter__(self) -> Iterator[Checksum]:
        """Yield the checksums."""
        return iter(self._entries)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._entries)


class HeldObjects(PlacedObjects):
    """Objects that a pull collects, in the order in which they come.

    The file is an object of the store that never gets committed: it has no name, and goes with the process.

    Attributes:
        forgets_data: Whether only the names are kept.
    """

    __slots__ = ("_held_bytes", "_scratch", "_sink", "_written_bytes", "forgets_data")

    def __init__(self, sink: ObjectSink | None = None, *, forgets_data: bool = False) -> None:
        """Begin empty.

        Args:
            sink: Where a file may be made; None keeps everything in memory.
            forgets_data: Whether only the names are needed.
        """
        super().__init__()
        self.forgets_data = forgets_data
        self._sink = sink
        self._held_bytes = self._written_bytes = 0
        self._scratch: ObjectWriter | None = None

    def add(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> None:
        """Take an object.

        Raises:
            OSError: As write(2), where the data go to a file.
        """
        if self.forgets_data:
            data = b""
        size = len(data)
        if size >= _MIN_WRITTEN_BYTES and self._held_bytes + size > MAX_HELD_BYTES and self._sink is not None:
            self._entries[checksum] = self._write(self._sink, data, object_id)
            return
        self._held_bytes += size
        self._entries[checksum] = (data, object_id)

    def _write(self, sink: ObjectSink, data: bytes, object_id: ObjectID | None) -> Place:
        if self._scratch is None:
            self._scratch = sink.create()
            self._fd = self._scratch.fd
        place = Place(self._written_bytes, len(data), object_id)
        write_all(self._fd, data)
        self._written_bytes += len(data)
        return place

    def remove(self, checksum: Checksum) -> bool:
        """Forget an object; return whether it was here."""
        found = self._entries.pop(checksum, None)
        if found is not None and not isinstance(found, Place):
            self._held_bytes -= len(found[0])
        return found is not None

    def close(self) -> None:
        """Let the file go; what is in it cannot be read any more. May be called again."""
        if self._scratch is not None:
            self._scratch.abort()
            self._fd = -1


class GatheredObjects(Mapping[Checksum, StoredContent]):
    """Objects from several places, which are read from there whenever they are asked for."""

    __slots__ = ("_finders",)

    def __init__(self) -> None:
        """Begin empty."""
        self._finders: dict[Checksum, Callable[[Checksum], StoredContent | None]] = {}

    def take(self, checksums: Iterable[Checksum], find: Callable[[Checksum], StoredContent | None]) -> None:
        """Take objects, in place of those of the same name from elsewhere; `find` returns them."""
        self._finders.update(dict.fromkeys(checksums, find))

    def discard(self, checksums: Iterable[Checksum]) -> None:
        """Forget objects."""
        for checksum in checksums:
            self._finders.pop(checksum, None)

    def __getitem__(self, checksum: Checksum) -> StoredContent:
        """Return the data of an object, and the ID of content that is an object."""
        found = self._finders[checksum](checksum)
        if found is None:
            raise KeyError(checksum)
        return found

    def __contains__(self, checksum: object) -> bool:
        """Return whether an object is here."""
        return checksum in self._finders

    def __iter__(self) -> Iterator[Checksum]:
        """Yield the checksums."""
        return iter(self._finders)

    def __len__(self) -> int:
        """Return the number of objects."""
        return len(self._finders)
