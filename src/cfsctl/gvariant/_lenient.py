"""Lenient readers: invalid bytes give the default value of their type."""

from __future__ import annotations

import struct
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, cast

from cfsctl.gvariant.framing import offset_width, read_offsets
from cfsctl.gvariant.reading import STRUCT_CODES, is_object_path, is_signature
from cfsctl.gvariant.types import (
    MAX_DEPTH,
    ArrayType,
    GVariantError,
    MaybeType,
    NumberType,
    StringType,
    TupleType,
    Type,
    VariantType,
    align,
    parse_type,
)
from cfsctl.gvariant.values import Just, Value, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.gvariant.reading import Budget, Reader

_CACHED_SIZE: Final = 64
"""Characters up to which a variant's type string has its reader remembered."""

_UNIT: Final = Variant("()", ())
"""Default of a variant."""


@lru_cache(maxsize=512)
def _cached_reader(signature: str) -> Reader:
    return _make_reader(parse_type(signature))


def lenient_reader(type_: Type) -> Reader:
    """Return the lenient reader of a definite type."""
    return _cached_reader(type_.signature) if len(type_.signature) <= _CACHED_SIZE else _make_reader(type_)


def _make_reader(type_: Type) -> Reader:
    match type_:
        case NumberType():
            return _number_reader(type_)
        case StringType():
            return _string_reader(type_)
        case VariantType():
            return _read_variant
        case MaybeType():
            return _maybe_reader(type_)
        case ArrayType():
            return _array_reader(type_)
        case TupleType():
            return _tuple_reader(type_)
        case _:
            raise GVariantError(f"type string: expected a definite type, found {type_.signature!r}")


def default_value(type_: Type) -> Value:
    """Return what stands in for a value whose bytes are not in order."""
    match type_:
        case NumberType():
            return {"b": False, "d": 0.0}.get(type_.signature, 0)
        case StringType():
            return "/" if type_.signature == "o" else ""
        case VariantType():
            return _UNIT
        case MaybeType():
            return None
        case ArrayType():
            return b"" if type_.element.signature == "y" else []
        case TupleType():
            return tuple([default_value(member) for member in type_.members])
        case _:
            raise GVariantError(f"type string: expected a definite type, found {type_.signature!r}")


def _number_reader(type_: Type) -> Reader:
    default = default_value(type_)
    size = type_.fixed_size
    if type_.signature == "b":
        return lambda data, start, end, _depth, _budget: end - start == 1 and data[start] != 0
    unpack_from = struct.Struct("<" + STRUCT_CODES[type_.signature]).unpack_from

    def read(data: bytes, start: int, end: int, _depth: int, _budget: Budget) -> Value:
        return cast("int | float", unpack_from(data, start)[0]) if end - start == size else default

    return read


def _string_reader(type_: Type) -> Reader:
    default = cast("str", default_value(type_))
    is_valid = {"o": is_object_path, "g": is_signature}.get(type_.signature)

    def read(data: bytes, start: int, end: int, _depth: int, budget: Budget) -> Value:
        if type_.signature == "g":
            budget.charge(end - start)
        if start == end or data.find(b"\0", start, end) != end - 1:
            return default
        try:
            text = data[start : end - 1].decode()
        except UnicodeDecodeError:
            return default
        return text if is_valid is None or is_valid(text) else default

    return read


def _read_variant(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
    split = data.rfind(b"\0", start, end)
    if split < 0:
        return _UNIT
    try:
        child = parse_type(data[split + 1 : end].decode("ascii"))
    except (UnicodeDecodeError, GVariantError):
        return _UNIT
    if depth + child.depth >= MAX_DEPTH or child.fixed_size not in (None, split - start):
        return _UNIT
    budget.charge(len(child.signature))  # at least its weight, and what reading the type costs
    return Variant(child.signature, lenient_reader(child)(data, start, split, depth + 1, budget))


def _maybe_reader(type_: MaybeType) -> Reader:
    element = lenient_reader(type_.element)
    fixed_size = type_.element.fixed_size
    weight = type_.element.weight

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        if start == end or fixed_size not in (None, end - start):
            return None
        budget.charge(weight)
        return Just(element(data, start, end if fixed_size else end - 1, depth + 1, budget))

    return read


def _array_reader(type_: ArrayType) -> Reader:
    if type_.element.signature == "y":
        return lambda data, start, end, _depth, _budget: data[start:end]
    return _variable_array_reader(type_) if type_.element.fixed_size is None else _fixed_array_reader(type_)


def _fixed_array_reader(type_: ArrayType) -> Reader:
    element = lenient_reader(type_.element)
    size = type_.element.fixed_size or 1
    weight = type_.element.weight

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        count, remainder = divmod(end - start, size)
        if remainder:
            return []
        budget.charge(count * weight)
        return [element(data, place, place + size, depth + 1, budget) for place in range(start, end, size)]

    return read


def _array_ends(data: bytes, start: int, end: int) -> Sequence[int]:
    """Return the offset table of an array, empty where it has none that makes sense."""
    size = end - start
    width = offset_width(size)
    table = int.from_bytes(data[end - width : end], "little")
    if not size or table > size or (size - table) % width:
        return ()
    return read_offsets(data, start + table, (size - table) // width, width)


def _variable_array_reader(type_: ArrayType) -> Reader:
    element = lenient_reader(type_.element)
    default = default_value(type_.element)
    weight = type_.element.weight
    padding = type_.element.alignment - 1

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        ends = _array_ends(data, start, end)
        budget.charge(len(ends) * weight)
        values: list[Value] = []
        previous = 0
        for stop in ends:
            if stop < previous:
                break
            first = previous + (-previous & padding)
            if first < stop <= ends[-1]:
                values.append(element(data, start + first, start + stop, depth + 1, budget))
            else:
                values.append(default)
            previous = stop
        values += [default] * (len(ends) - len(values))
        return values

    return read


class _Step(NamedTuple):
    """How to find and read one member of a tuple."""

    read: Reader
    default: Value
    padding: int
    fixed_size: int | None
    offsets: int
    """Offsets in the table up to this member's end, its own included."""
    is_last: bool


def _tuple_reader(type_: TupleType) -> Reader:
    steps = _tuple_steps(type_)
    defaults = tuple([step.default for step in steps])
    trailing = _trailing_size(type_)

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        size = end - start
        if not size or type_.fixed_size not in (None, size):
            return defaults
        budget.charge(len(steps))
        bounds = _member_bounds(steps, data, start, end)
        limit = bounds[-1][1] if len(bounds) == len(steps) and bounds else trailing
        values = [
            step.read(data, start + first, start + last, depth + 1, budget)
            if first < last <= size and last <= limit
            else step.default
            for step, (first, last) in zip(steps, _ordered(bounds, size), strict=False)
        ]
        return (*values, *defaults[len(values) :])

    return read


def _member_bounds(steps: Sequence[_Step], data: bytes, start: int, end: int) -> list[tuple[int, int]]:
    """Return where the offset table puts the members, up to the first for which it is too short."""
    width = offset_width(end - start)
    bounds = []
    position = 0
    for step in steps:
        first = position + (-position & step.padding)
        place = end - width * step.offsets
        if place < start:
            break
        if step.fixed_size is not None:
            position = first + step.fixed_size
        elif step.is_last:
            position = place - start
        else:
            position = int.from_bytes(data[place : place + width], "little")
        bounds.append((first, position))
    return bounds


def _ordered(bounds: list[tuple[int, int]], size: int) -> list[tuple[int, int]]:
    """Return the bounds up to the first that overlap or pass the end of the tuple.

    GLib never looks for more disorder once the first member is out of order, so neither do we.
    """
    for index, (first, last) in enumerate(bounds):
        if not first <= last <= size:
            return bounds[:index] or bounds
    return bounds


def _trailing_size(type_: TupleType) -> int:
    """Return where the last member ends if the offset before it is taken for 0, or a number above all.

    That is what GLib compares the other members with when the table is too short for the last one.
    """
    if not type_.members or type_.members[-1].fixed_size is None:
        return 1 << 64
    position = 0
    for member in type_.members:
        position = 0 if member.fixed_size is None else align(position, member.alignment) + member.fixed_size
    return position


def _tuple_steps(type_: TupleType) -> list[_Step]:
    steps = []
    offsets = 0
    last = len(type_.members) - 1
    for index, member in enumerate(type_.members):
        offsets += member.fixed_size is None and index < last
        read, default = lenient_reader(member), default_value(member)
        steps.append(_Step(read, default, member.alignment - 1, member.fixed_size, offsets, index == last))
    return steps
