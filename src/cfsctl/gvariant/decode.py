"""Bytes to values, strictly.

A type becomes a reader once: a function made of the readers of its members. They accept exactly what GLib
calls normal form, which is what `encode` writes, so that accepting bytes means that encoding the value gives
the same bytes. The specification's defaults for other bytes are not implemented: a reader that puts them in
place would hide a difference that matters.

Depth is bounded by `MAX_DEPTH`, the number of values by a budget that every array is charged to before
its values are made; offsets are checked against the enclosing container before they are used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.gvariant._readers import make_reader
from cfsctl.gvariant.reading import Budget
from cfsctl.gvariant.types import GVariantError, Type, parse_type

if TYPE_CHECKING:
    from cfsctl.gvariant.values import Value

MAX_VALUES: Final = 16_000_000
"""Values that one call may make; each costs some 60 bytes. Bytes of an ``ay`` are not counted."""


def decode(
    type_: str | Type,
    data: bytes | bytearray | memoryview,
    *,
    max_values: int = MAX_VALUES,
) -> Value:
    """Decode the bytes of a value.

    Args:
        type_: Its type, which is definite.
        data: All of its bytes, little-endian.
        max_values: Values to make at most.

    Returns:
        The value as `cfsctl.gvariant.values` says.

    Raises:
        GVariantError: Not in normal form, too many values, or no definite type.
    """
    parsed = parse_type(type_) if isinstance(type_, str) else type_
    buffer = data if isinstance(data, bytes) else bytes(data)
    reader = make_reader(parsed)
    return reader(buffer, 0, len(buffer), 0, Budget(max_values))


def is_normal(
    type_: str | Type, data: bytes | bytearray | memoryview, *, max_values: int = MAX_VALUES
) -> bool:
    """Return whether the bytes are the normal form of a value of this type.

    Raises:
        GVariantError: The type string is invalid or indefinite.
    """
    parsed = parse_type(type_) if isinstance(type_, str) else type_
    make_reader(parsed)
    try:
        decode(parsed, data, max_values=max_values)
    except GVariantError:
        return False
    return True
