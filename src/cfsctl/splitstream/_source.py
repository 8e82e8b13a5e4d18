"""Where the bytes of a splitstream come from, and how its compressed sections are unpacked.

Nothing is read that lies outside the range asked for, and nothing unpacked is held beyond one piece.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.splitstream.format import (
    MAX_WINDOW_BYTES,
    SplitstreamError,
    fail,
    streamed_limit,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.splitstream.format import Range

_READ_BYTES: Final = 1 << 16
"""Compressed bytes read at a time."""


class ByteRange(Protocol):
    """Bytes that can be read anywhere."""

    @property
    def size(self) -> int:
        """Size in bytes."""

    def read(self, start: int, size: int) -> bytes:
        """Return exactly `size` bytes from offset `start`; the range lies within the source."""

    def close(self) -> None:
        """Release what the source owns; may be called again."""


class BytesSource:
    """Bytes in memory."""

    __slots__ = ("_data",)

    def __init__(self, data: bytes | bytearray | memoryview) -> None:
        """Wrap the data, which must not change."""
        self._data = memoryview(data).cast("B")

    @property
    def size(self) -> int:
        """Size in bytes."""
        return len(self._data)

    def read(self, start: int, size: int) -> bytes:
        """Return a copy of a range."""
        return bytes(self._data[start : start + size])

    def close(self) -> None:
        """Release the data."""
        self._data.release()


class FileSource:
    """An open file, whose position is neither used nor changed."""

    __slots__ = ("_fd", "_size")

    def __init__(self, fd: int) -> None:
        """Take ownership of the descriptor.

        Raises:
            OSError: As fstat(2).
        """
        self._fd = fd
        self._size = os.fstat(fd).st_size

    @property
    def size(self) -> int:
        """Size in bytes when the file was opened."""
        return self._size

    def read(self, start: int, size: int) -> bytes:
        """Return a range.

        Raises:
            SplitstreamError: The file has become shorter.
            OSError: As pread(2), EIO from fs-verity among them.
        """
        data = os.pread(self._fd, size, start)
        if len(data) == size:
            return data
        parts = [data]
        while data:
            start += len(data)
            size -= len(data)
            data = os.pread(self._fd, size, start)
            parts.append(data)
        if size:
            fail("file", f"{self._size} bytes", f"the end at {start}", start)
        return b"".join(parts)

    def close(self) -> None:
        """Close the descriptor."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def iter_unpacked(source: ByteRange, section: Range, name: str) -> Iterator[bytes]:
    """Yield what a compressed section holds, in pieces of any size above zero.

    Frames may follow one another, and the last one must be complete.

    Args:
        source: The file.
        section: Range of the section, which lies within the file.
        name: What the section is called in messages.

    Raises:
        SplitstreamError: Not zstd, damaged, cut short, a window above 8 MiB, or far more bytes than
            such a section unpacks to; what came before has been delivered by then.
    """
    from cfsctl.compression import (  # costs more than most commands that never unpack anything
        Compression,
        CompressionError,
        TooMuchOutputError,
        TruncatedError,
        iter_decoded,
    )

    size = section.size_bytes
    limit = streamed_limit(size)
    try:
        pieces = _iter_pieces(source, section)
        # What a zstd decoder yields are bytes already, which are not copied.
        yield from map(
            bytes, iter_decoded(pieces, Compression.ZSTD, limit, max_window_bytes=MAX_WINDOW_BYTES)
        )
    except TooMuchOutputError:
        fail(name, f"at most {limit} bytes in {size} compressed ones", "more", section.start)
    except TruncatedError:
        fail(name, "a complete zstd frame", f"its end missing in {size} bytes", section.end)
    except CompressionError as error:
        message = f"splitstream {name}: expected zstd frames, found them damaged: {error}"
        raise SplitstreamError(message, offset=section.start, field=name) from error


def _iter_pieces(source: ByteRange, section: Range) -> Iterator[bytes]:
    for start in range(section.start, section.end, _READ_BYTES):
        yield source.read(start, min(_READ_BYTES, section.end - start))
