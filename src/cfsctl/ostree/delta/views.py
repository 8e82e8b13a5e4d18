"""Random access to bytes in memory or files, and a buffer for bytes that arrive in pieces."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.delta.format import DeltaError, fail
from cfsctl.splitstream.spool import Spool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.repository.objects.store import ObjectStore

READ_BYTES: Final = 1 << 18
"""Bytes read at a time where a range may be large."""


class ByteView:
    """A range of bytes in memory or in a file.

    Attributes:
        size: Bytes in the range.
    """

    __slots__ = ("_read_at", "_start", "size")

    def __init__(self, read_at: Callable[[int, int], bytes], size: int, start: int = 0) -> None:
        """Make a view; `read_at` takes offset and size, and may return less at the end of the file."""
        self._read_at = read_at
        self._start = start
        self.size = size

    @classmethod
    def of_bytes(cls, data: bytes) -> ByteView:
        """Return a view of bytes in memory."""
        return cls(lambda offset, size: data[offset : offset + size], len(data))

    @classmethod
    def of_file(cls, fd: int) -> ByteView:
        """Return a view of a file as large as it is now; the descriptor is borrowed."""
        return cls(lambda offset, size: os.pread(fd, size, offset), os.fstat(fd).st_size)

    def read(self, offset: int, size: int) -> bytes:
        """Return exactly these bytes.

        Raises:
            DeltaError: They are not all there. The range is checked before anything is allocated.
        """
        if offset < 0 or size < 0 or offset + size > self.size:
            fail("range", f"an end within {self.size} bytes", f"{size} bytes at {offset}")
        data = self._read_at(self._start + offset, size)
        while len(data) < size:
            more = self._read_at(self._start + offset + len(data), size - len(data))
            if not more:
                raise DeltaError(f"expected {self.size} bytes, found an end at {offset + len(data)}")
            data += more
        return data

    def window(self, start: int, end: int) -> ByteView:
        """Return a part of the view.

        Raises:
            DeltaError: It is not within the view.
        """
        if not 0 <= start <= end <= self.size:
            fail("range", f"one within {self.size} bytes", f"{start} to {end}")
        return ByteView(self._read_at, end - start, self._start + start)

    def iter_pieces(self) -> Iterator[bytes]:
        """Yield everything in order."""
        for offset in range(0, self.size, READ_BYTES):
            yield self.read(offset, min(READ_BYTES, self.size - offset))


class Scratch:
    """Takes bytes in pieces and shows them; when there are many they are in a file without a name."""

    __slots__ = ("_spool",)

    def __init__(self, objects: ObjectStore) -> None:
        """Begin empty."""
        self._spool = Spool(objects)

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._spool.size

    def write(self, data: bytes | memoryview, /) -> None:
        """Append bytes.

        Raises:
            OSError: As write(2), ENOSPC among them.
        """
        self._spool.append(data)

    def view(self) -> ByteView:
        """Return everything; the view is good until `close`, and nothing may be written any more."""
        fd = self._spool.settle()
        return ByteView.of_bytes(b"".join(self._spool.iter_pieces())) if fd is None else ByteView.of_file(fd)

    def close(self) -> None:
        """Release the file; may be called again."""
        self._spool.clear()
