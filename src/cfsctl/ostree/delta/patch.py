"""bsdiff patches as deltas have them: no magic, no header, no compression of their own.

    repeated   a b c, 8 bytes each, little-endian, bit 63 is the sign
               a bytes to add to the old file's, b bytes as they are; then c is where the old file is left

Bytes of the old file outside of it count as zero. The patch must make exactly the announced size and be used
up.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.delta.format import fail

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.ostree.delta.views import ByteView

_BLOCK: Final = struct.Struct("<QQQ")
_SIGN: Final = 1 << 63

_STEP_BYTES: Final = 1 << 16
"""Bytes read and written at a time."""

_WINDOW_BYTES: Final = 1 << 14
"""Bytes read ahead."""

_LIMB_BYTES: Final = 4096
"""Bytes added as one number; longer numbers are slower."""

_LOW: Final = int.from_bytes(b"\x7f" * _LIMB_BYTES, "little")
_HIGH: Final = int.from_bytes(b"\x80" * _LIMB_BYTES, "little")
_ZEROS: Final = bytes(_STEP_BYTES)


def apply_patch(patch: ByteView, old: ByteView, size: int, write: Callable[[bytes], object]) -> None:
    """Write `size` bytes that a patch makes of an old file.

    Raises:
        DeltaError: The patch is not one, or makes another size.
    """
    output = _Output(write)
    read_patch, read_old = _Window(patch).read, _Window(old).read_padded
    place = produced = old_place = 0
    while produced < size:
        if patch.size - place < _BLOCK.size:
            fail("patch", f"{size} bytes of content", f"the end of the patch after {produced}")
        added, literal, seek = map(_signed, _BLOCK.unpack(read_patch(place, _BLOCK.size)))
        place += _BLOCK.size
        if added < 0 or literal < 0 or added + literal > size - produced:
            fail("patch", f"at most {size - produced} more bytes", f"{added} and {literal}")
        for done in range(0, added, _STEP_BYTES):
            step = min(_STEP_BYTES, added - done)
            difference = read_patch(place + done, step)
            before = read_old(old_place + done, step)
            output.take(before if difference == _ZEROS[:step] else add_bytes(difference, before))
        place += added
        old_place += added + seek
        for done in range(0, literal, _STEP_BYTES):
            output.take(read_patch(place + done, min(_STEP_BYTES, literal - done)))
        place += literal
        produced += added + literal
    output.flush()
    if place != patch.size:
        fail("patch", f"its end after {size} bytes of content", f"{patch.size - place} bytes more")


def _signed(value: int) -> int:
    return _SIGN - value if value & _SIGN else value


class _Window:
    """Reads a view where most pieces are short and follow each other."""

    __slots__ = ("_data", "_end", "_start", "_view")

    def __init__(self, view: ByteView) -> None:
        self._view = view
        self._data = b""
        self._start = self._end = 0

    def read(self, start: int, size: int) -> bytes:
        """Return bytes of the view, as `ByteView.read` does."""
        if start < self._start or start + size > self._end:
            ahead = max(size, min(_WINDOW_BYTES, self._view.size - start))
            self._data = self._view.read(start, ahead)
            self._start, self._end = start, start + ahead
        offset = start - self._start
        return self._data[offset : offset + size]

    def read_padded(self, start: int, size: int) -> bytes:
        """Return bytes of the view, zeros if it has none."""
        view_size = self._view.size
        first = min(max(start, 0), view_size)
        last = min(max(start + size, 0), view_size)
        if last - first == size:
            return self.read(first, size)
        if first == last:
            return bytes(size)
        return bytes(first - start) + self.read(first, last - first) + bytes(start + size - last)


class _Output:
    """Joins short pieces before they are written."""

    __slots__ = ("_pieces", "_size", "_write")

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write = write
        self._pieces: list[bytes] = []
        self._size = 0

    def take(self, piece: bytes) -> None:
        self._pieces.append(piece)
        self._size += len(piece)
        if self._size >= _STEP_BYTES:
            self.flush()

    def flush(self) -> None:
        if self._pieces:
            self._write(b"".join(self._pieces))
            self._pieces.clear()
            self._size = 0


def add_bytes(one: bytes, other: bytes) -> bytes:
    """Return the sums, modulo 256, of the bytes of two strings of one length.

    Seven bits of each byte are added within long numbers, where nothing can carry into the next byte; the
    eighth is put right afterwards.
    """
    pieces = []
    for start in range(0, len(one), _LIMB_BYTES):
        left = int.from_bytes(one[start : start + _LIMB_BYTES], "little")
        right = int.from_bytes(other[start : start + _LIMB_BYTES], "little")
        total = ((left & _LOW) + (right & _LOW)) ^ ((left ^ right) & _HIGH)
        pieces.append(total.to_bytes(min(_LIMB_BYTES, len(one) - start), "little"))
    return b"".join(pieces)
