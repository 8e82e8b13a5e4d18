"""Framing offsets: how containers say where their variable-sized children end.

Offsets are little-endian and as wide as the container's whole size asks for, in 0, 1, 2, 4 or 8 bytes.
"""

from __future__ import annotations

import struct
import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Sequence

_MAX_UNPACKED: Final = 1 << 16
"""Offsets of a longer table become numbers when they are asked for: each takes nine times as much memory
as in the table."""

_CODES: Final = {1: "B", 2: "H", 4: "I", 8: "Q"}


def offset_width(size: int) -> int:
    """Return the bytes of one offset in a container of `size` bytes."""
    if size <= 0xFF:
        return 1 if size else 0
    if size <= 0xFFFF:
        return 2
    return 4 if size <= 0xFFFFFFFF else 8


def is_minimal(body: int, count: int, size: int) -> bool:
    """Return whether a writer would make a container of `size` bytes from this body and offset count."""
    return total_size(body, count) == size


def total_size(body: int, count: int) -> int:
    """Return the size of a container whose children take `body` bytes, with `count` offsets."""
    width = 1
    while body + width * count >= 1 << (8 * width):
        width *= 2
    return body + width * count


def read_offsets(data: bytes, start: int, count: int, width: int) -> Sequence[int]:
    """Return `count` offsets that begin at `start`; the caller has checked that they are there."""
    if width == 1:
        return data[start : start + count]
    if count > _MAX_UNPACKED and width < 8 and sys.byteorder == "little":
        return memoryview(data)[start : start + count * width].cast("I" if width == 4 else "H")
    return struct.unpack_from(f"<{count}{_CODES[width]}", data, start)


def format_offsets(body: int, offsets: Sequence[int]) -> bytes:
    """Return an offset table in the smallest width for a container whose children take `body` bytes."""
    if not offsets:
        return b""
    width = (total_size(body, len(offsets)) - body) // len(offsets)
    return struct.pack(f"<{len(offsets)}{_CODES[width]}", *offsets)
