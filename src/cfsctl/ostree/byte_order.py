"""Numbers that stand in the other byte order than the GVariant codec, which is little-endian, reads."""

from __future__ import annotations


def swap64(value: int) -> int:
    """Return a number of 64 bits with its bytes reversed."""
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def swap32(value: int) -> int:
    """Return a number of 32 bits with its bytes reversed."""
    return int.from_bytes(value.to_bytes(4, "little"), "big")
