"""Sparse files: find holes, and write without storing blocks of zeros.

Blocks of zeros are written as holes, whether they come from a hole, from the network or from memory. Holes
are found with SEEK_HOLE; on file systems without it, files have no holes.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

BLOCK_BYTES: Final = 4096
"""The smallest hole that is looked for or made."""

_COPY_BYTES: Final = 1 << 16
"""Bytes copied at a time, which is what hashing likes best."""

_ZEROS: Final = bytes(BLOCK_BYTES)
_STAT_BLOCK_BYTES: Final = 512


def may_have_holes(status: os.stat_result) -> bool:
    """Return whether a file takes less space than its size."""
    return status.st_blocks * _STAT_BLOCK_BYTES < status.st_size and stat.S_ISREG(status.st_mode)


def iter_holes(fd: int, size: int, least: int = BLOCK_BYTES) -> Iterator[tuple[int, int]]:
    """Yield start and end of each hole, in order.

    Starts are multiples of a block, and so are ends but for the end of the file. Where the descriptor
    stands is left undefined.

    Args:
        fd: The file, borrowed.
        size: Where to stop, in bytes.
        least: Bytes of the smallest hole that counts.
    """
    end = 0
    while end < size:
        try:
            start = os.lseek(fd, end, os.SEEK_HOLE)
            end = _find_data(fd, start, size)
        except OSError as error:
            # ENXIO: it has become shorter; others are of file systems that do not know.
            if error.errno in {errno.ENXIO, errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE}:
                return
            raise
        start = -(-start // BLOCK_BYTES) * BLOCK_BYTES
        inner = end if end == size else end // BLOCK_BYTES * BLOCK_BYTES
        if inner - start >= min(least, size - start) > 0:
            yield start, inner


def _find_data(fd: int, start: int, size: int) -> int:
    """Return where the hole at a position ends, at the end of the file at most."""
    if start >= size:
        return size
    try:
        return min(os.lseek(fd, start, os.SEEK_DATA), size)
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        return size


def copy_file(fd: int, write: Callable[[bytes], object], write_hole: Callable[[int], object]) -> None:
    """Pass the whole content of a file on, its holes without reading them.

    Args:
        fd: The file, borrowed; where it stands afterwards is left undefined.
        write: Takes the next bytes.
        write_hole: Takes the number of zeros that come next.

    Raises:
        OSError: As pread(2), and what the two raise.
    """
    status = os.fstat(fd)
    position = 0
    for start, end in iter_holes(fd, status.st_size) if may_have_holes(status) else ():
        while position < start:
            chunk = os.pread(fd, min(_COPY_BYTES, start - position), position)
            if not chunk:
                return
            write(chunk)
            position += len(chunk)
        write_hole(end - start)
        position = end
    while chunk := os.pread(fd, _COPY_BYTES, position):
        write(chunk)
        position += len(chunk)


def iter_runs(data: memoryview) -> Iterator[tuple[bool, int, int]]:
    """Yield all of some data in runs: whether it is zeros, start and end.

    A run of zeros has at least a block, counted from the beginning of the data.
    """
    begun, was_zero = 0, False
    whole = len(data) // BLOCK_BYTES * BLOCK_BYTES
    for at in range(0, whole, BLOCK_BYTES):
        # Looking at a byte or two tells nearly all other blocks.
        is_zero = (
            not data[at]
            and not data[at + BLOCK_BYTES - 1]
            and data[at : at + BLOCK_BYTES].tobytes() == _ZEROS
        )
        if is_zero is not was_zero:
            if at > begun:
                yield was_zero, begun, at
            begun, was_zero = at, is_zero
    if was_zero and whole < len(data):
        yield True, begun, whole
        begun, was_zero = whole, False
    if begun < len(data):
        yield was_zero, begun, len(data)


def write_all(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` at the descriptor's position, however little each call takes."""
    written = os.write(fd, data)
    if written == len(data):
        return
    rest = memoryview(data).cast("B")[written:]
    while rest:
        rest = rest[os.write(fd, rest) :]


def write_sparse(fd: int, data: bytes | bytearray | memoryview) -> None:
    """Write all of `data` at the descriptor's position, which is the end of the file, and no zeros.

    Raises:
        OSError: As write(2), lseek(2) and ftruncate(2).
    """
    if len(data) < BLOCK_BYTES:
        write_all(fd, data)
        return
    view = memoryview(data)
    for is_zero, start, end in iter_runs(view):
        if is_zero:
            write_hole(fd, end - start)
        else:
            write_all(fd, view[start:end])


def write_hole(fd: int, size: int) -> None:
    """Make a file longer by a hole at the descriptor's position, which is its end.

    Raises:
        OSError: As lseek(2) and ftruncate(2), EFBIG among them.
    """
    os.ftruncate(fd, os.lseek(fd, size, os.SEEK_CUR))
