"""Convert big-endian numbers, because the GVariant codec reads little-endian."""

from __future__ import annotations


def swap64(value: int) -> int:
    """Return a number of 64 bits with its bytes reversed."""
    return int.from_bytes(value.to_bytes(8, "little"), "big")


def swap32(value: int) -> int:
    """Return a number of 32 bits with its bytes reversed."""
    return int.from_bytes(value.to_bytes(4, "little"), "big")
