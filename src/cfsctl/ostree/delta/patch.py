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
    place = produced = old_place = 0
    while produced < size:
        if patch.size - place < _BLOCK.size:
            fail("patch", f"{size} bytes of content", f"the end of the patch after {produced}")
        added, literal, seek = map(_signed, _BLOCK.unpack(patch.read(place, _BLOCK.size)))
        place += _BLOCK.size
        if added < 0 or literal < 0 or added + literal > size - produced:
            fail("patch", f"at most {size - produced} more bytes", f"{added} and {literal}")
        _add(patch, place, old, old_place, added, write)
        place += added
        old_place += added + seek
        _copy(patch, place, literal, write)
        place += literal
        produced += added + literal
    if place != patch.size:
        fail("patch", f"its end after {size} bytes of content", f"{patch.size - place} bytes more")


def _signed(value: int) -> int:
    return _SIGN - value if value & _SIGN else value


def _copy(patch: ByteView, place: int, size: int, write: Callable[[bytes], object]) -> None:
    for done in range(0, size, _STEP_BYTES):
        write(patch.read(place + done, min(_STEP_BYTES, size - done)))


def _add(
    patch: ByteView, place: int, old: ByteView, old_place: int, size: int, write: Callable[[bytes], object]
) -> None:
    for done in range(0, size, _STEP_BYTES):
        step = min(_STEP_BYTES, size - done)
        difference = patch.read(place + done, step)
        before = _read_padded(old, old_place + done, step)
        write(before if difference == _ZEROS[:step] else add_bytes(difference, before))


def _read_padded(old: ByteView, start: int, size: int) -> bytes:
    """Return bytes of the old file, zeros where it has none."""
    first = min(max(start, 0), old.size)
    last = min(max(start + size, 0), old.size)
    if last - first == size:
        return old.read(first, size)
    if first == last:
        return bytes(size)
    return bytes(first - start) + old.read(first, last - first) + bytes(start + size - last)


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
