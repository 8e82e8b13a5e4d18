"""Bytes that wait for something that has to precede them in the file."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.linux.files import write_all

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID

_MEMORY_BYTES: Final = 1 << 20
"""Bytes kept in memory before a file is made for them."""

_READ_BYTES: Final = 1 << 18


class StoredObject(Protocol):
    """What a store says about an object that it has."""

    @property
    def object_id(self) -> ObjectID:
        """The object's ID."""


class ObjectWriter(Protocol):
    """An object under construction, which is a file without a name until it is committed."""

    @property
    def fd(self) -> int:
        """Descriptor of the file, for reading and writing; borrowed."""

    def write(self, data: bytes | bytearray | memoryview, /) -> None:
        """Append to the object."""

    def commit(self) -> StoredObject:
        """Store the object."""

    def abort(self) -> None:
        """Forget the object; may be called again and after `commit`."""


class ObjectSink(Protocol):
    """What a splitstream needs of an object store: room for new objects."""

    def create(self) -> ObjectWriter:
        """Begin an object."""


class Spool:
    """A queue of bytes, kept in memory or, when there are many, in a file of the object store.

    The file is an object that never gets committed: it has no name, lies where there is room for the
    objects themselves, and is gone when it is closed, also if the process dies.
    """

    __slots__ = ("_parts", "_parts_size", "_scratch", "_sink", "size")

    def __init__(self, sink: ObjectSink) -> None:
        """Begin empty."""
        self._sink = sink
        self._scratch: ObjectWriter | None = None
        self._parts: list[bytes] = []
        self._parts_size = 0
        self.size = 0

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Add bytes at the end; they are copied unless they are immutable and few."""
        self.size += len(data)
        if self._parts_size + len(data) <= _MEMORY_BYTES:
            self._parts.append(bytes(data))
            self._parts_size += len(data)
            return
        self._spill()
        if len(data) <= _MEMORY_BYTES >> 1:
            self._parts.append(bytes(data))
            self._parts_size = len(data)
        else:
            write_all(self._file().fd, data)

    def _file(self) -> ObjectWriter:
        if self._scratch is None:
            self._scratch = self._sink.create()
        return self._scratch

    def _spill(self) -> None:
        """Move what is in memory to the file."""
        write_all(self._file().fd, b"".join(self._parts))
        self._parts.clear()
        self._parts_size = 0

    def iter_pieces(self) -> Iterator[bytes]:
        """Yield everything in order."""
        if self._scratch is not None:
            place, end = 0, self.size - self._parts_size
            while place < end:
                data = os.pread(self._scratch.fd, min(_READ_BYTES, end - place), place)
                if not data:
                    raise RuntimeError(f"scratch file: expected {end} bytes, found {place}")
                yield data
                place += len(data)
        if self._parts:
            yield b"".join(self._parts)

    def settle(self) -> int | None:
        """Return a descriptor of a file that has everything, borrowed; None if all of it is in memory."""
        if self._scratch is None:
            return None
        self._spill()
        return self._scratch.fd

    def clear(self) -> None:
        """Forget everything; the file is let go of."""
        self._parts.clear()
        self._parts_size = self.size = 0
        if self._scratch is not None:
            self._scratch.abort()
            self._scratch = None
