"""Parts of a large value: where they are, so that they can be decoded one at a time.

This is as strict as `decode`: if all members of a tuple, or elements of an array, decode without an error,
they make a value in normal form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from cfsctl.gvariant._readers import find_array_ends, make_reader, skip_padding
from cfsctl.gvariant.framing import is_minimal, offset_width
from cfsctl.gvariant.reading import Budget
from cfsctl.gvariant.types import ArrayType, GVariantError, TupleType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.gvariant.types import Type
    from cfsctl.gvariant.values import Value

Bounds: TypeAlias = "tuple[int, int]"
"""Where a part starts, and where it ends."""

__all__ = ["Bounds", "Budget", "decode_part", "find_members", "iter_elements"]


def decode_part(type_: Type, data: bytes, bounds: Bounds, budget: Budget) -> Value:
    """Decode a part of a value; see `decode`.

    Args:
        type_: Type of the part.
        data: The whole value.
        bounds: Where the part is in it.
        budget: What may still be decoded of the value.

    Raises:
        GVariantError: As `decode`.
    """
    return make_reader(type_)(data, *bounds, 0, budget)


def find_members(type_: Type, data: bytes, bounds: Bounds) -> list[Bounds]:
    """Return where the members of a tuple or dictionary entry are, one of which has no fixed size.

    Raises:
        GVariantError: Not in normal form.
    """
    assert isinstance(type_, TupleType)
    start, end = bounds
    width = offset_width(end - start)
    table = end - width * type_.offset_count
    if table < start or not is_minimal(table - start, type_.offset_count, end - start):
        raise GVariantError(f"{type_.signature}: expected offsets of the smallest width at byte {end}")
    place, position = end, start
    found: list[Bounds] = []
    for index, member in enumerate(type_.members):
        if position & (member.alignment - 1):
            position = skip_padding(data, position, member.alignment - 1, table)
        if member.fixed_size is not None:
            stop = position + member.fixed_size
        elif index < len(type_.members) - 1:
            place -= width
            stop = start + int.from_bytes(data[place : place + width], "little")
        else:
            stop = table
        _check_end(type_, stop, position, table)
        found.append((position, stop))
        position = stop
    if position != table:
        _check_end(type_, position, table, table)
    return found


def iter_elements(type_: Type, data: bytes, bounds: Bounds) -> Iterator[Bounds]:
    """Yield where the elements of an array are, which have no fixed size.

    Raises:
        GVariantError: Not in normal form; elements before that have been yielded by then.
    """
    assert isinstance(type_, ArrayType)
    start, end = bounds
    if start == end:
        return
    padding = type_.element.alignment - 1
    ends = find_array_ends(type_, data, start, end)
    limit = start + ends[-1]
    position = start
    for offset in ends:
        stop = start + offset
        if position & padding:
            position = skip_padding(data, position, padding, limit)
        _check_end(type_, stop, position, limit)
        yield position, stop
        position = stop


def _check_end(type_: Type, stop: int, least: int, most: int) -> None:
    if not least <= stop <= most:
        raise GVariantError(
            f"{type_.signature}: expected an end from {least} to {most}, found {stop}",
            offset=least,
            field=type_.signature,
        )
