"""Objects that are many or large: what is small is in memory, the rest in a file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, overload

from cfsctl.digest import Checksum
from cfsctl.linux.files import write_all
from cfsctl.ostree.objects.stored_content import StoredContent

if TYPE_CHECKING:
    from array import array
    from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
    from typing import TypeAlias, TypeVar

    from cfsctl.digest import ObjectID
    from cfsctl.splitstream.spool import ObjectSink, ObjectWriter

    T = TypeVar("T")
    Entry: TypeAlias = "StoredContent | Place | Lender"

MAX_HELD_BYTES: Final = 16 << 20
"""Bytes of data that are kept in memory; those of real commits are."""

_MIN_WRITTEN_BYTES: Final = 512
"""Smaller data stay in memory: to remember where they are would take as much."""


@dataclass(slots=True)
class Place:
    """Where the data of an object are in a file, and the ID of content that is an object."""

    offset: int
    size: int
    object_id: ObjectID | None


class Table(NamedTuple):
    """All objects of a lender, as columns.

    Attributes:
        checksums: Names, ascending.
        starts: Where the data of each are, in units of 8 bytes.
        sizes: How many bytes these are.
        numbers: The number of the object in `refs` that is the content, or `NO_OBJECT`.
        refs: Contents that are objects of the repository.
        data: All data.
    """

    checksums: Sequence[Checksum]
    starts: array[int]
    sizes: array[int]
    numbers: array[int]
    refs: Sequence[ObjectID]
    data: memoryview


NO_OBJECT: Final = 0xFFFFFFFF
"""Instead of an object's number: the data is all there is."""


class Lender(Protocol):
    """A stored commit whose objects are taken as they are, many at once."""

    @property
    def data_bytes(self) -> int:
        """Size of all data."""

    @property
    def table(self) -> Table:
        """All of its objects."""

    def find(self, checksum: Checksum, /) -> StoredContent | None:
        """Return an object's data, and the ID of content that is an object."""


class PlacedObjects(Mapping[Checksum, StoredContent]):
    """Objects by checksum, of which some are elsewhere; these are read whenever they are asked for."""

    __slots__ = ("_entries", "_fd")

    def __init__(self, fd: int = -1) -> None:
        """Begin empty; the descriptor is borrowed."""
        self._entries: dict[Checksum, Entry] = {}
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
        if type(found) is tuple:  # half the time of isinstance, and most are
            return found
        return self._read(checksum, found)

    def __getitem__(self, checksum: Checksum) -> StoredContent:
        """Return the data of an object, and the ID of content that is an object."""
        found = self._entries[checksum]
        if type(found) is tuple:  # half the time of isinstance, and most are
            return found
        return self._read(checksum, found)

    def _read(self, checksum: Checksum, found: Entry) -> StoredContent:
        if isinstance(found, Place):
            return self._read_place(found)
        if isinstance(found, tuple):
            return found
        lent = found.find(checksum)
        if lent is None:
            raise RuntimeError(f"object {checksum.hex()}: expected it where it was found")
        return lent

    def _read_place(self, place: Place) -> StoredContent:
        data = os.pread(self._fd, place.size, place.offset)
        if len(data) != place.size:
            raise RuntimeError(f"file of objects: expected {place.size} bytes, found {len(data)}")
        return data, place.object_id

    def iter_ids(self) -> Iterator[tuple[Checksum, ObjectID | None]]:
        """Yield each object with the ID of content that is an object; no data are read."""
        for checksum, found in self._entries.items():
            yield checksum, found.object_id if isinstance(found, Place) else self[checksum][1]

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

    Those that a proven commit lends are not copied. The file is an object of the store that never gets
    committed: it has no name, and goes with the process.

    Attributes:
        forgets_data: Whether only the names are kept.
    """

    __slots__ = ("_held_bytes", "_lenders", "_scratch", "_sink", "_written_bytes", "forgets_data")

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
        self._lenders: list[Lender] = []

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

    def lend(self, lender: Lender, checksums: Collection[Checksum]) -> None:
        """Take objects that stay where they are.

        Args:
            lender: Has them, and nothing about them has to be checked.
            checksums: Their names.
        """
        if self.forgets_data:
            self._entries.update(dict.fromkeys(checksums, (b"", None)))
        else:
            if lender not in self._lenders:
                self._lenders.append(lender)
            self._entries.update(dict.fromkeys(checksums, lender))

    def count_lent(self) -> dict[Lender, int]:
        """Return how many objects were lent, by who has them."""
        found = list(self._entries.values())
        counts = {lender: found.count(lender) for lender in self._lenders}
        return {lender: count for lender, count in counts.items() if count}

    def find_not_lent(self, names: Sequence[Checksum], lender: Lender) -> list[int]:
        """Return the places of those names that are not of objects that were lent by this one."""
        get = self._entries.get
        return [place for place, name in enumerate(names) if get(name) is not lender]

    def list_not_of(self, lender: Lender) -> list[Checksum]:
        """Return the names of all objects that were not lent by this one."""
        return [checksum for checksum, found in self._entries.items() if found is not lender]

    def iter_own(self) -> Iterator[tuple[Checksum, int, ObjectID | None]]:
        """Yield the objects that were not lent: name, size of the data, ID of content that is an object."""
        for checksum, found in self._entries.items():
            if isinstance(found, Place):
                yield checksum, found.size, found.object_id
            elif type(found) is tuple:
                yield checksum, len(found[0]), found[1]

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
        if found is not None and type(found) is tuple:
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
