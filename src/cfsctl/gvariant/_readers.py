"""Strict readers: only normal form is accepted."""

from __future__ import annotations

import struct
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn, cast

from cfsctl.gvariant.framing import is_minimal, offset_width, read_offsets
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
    parse_type,
)
from cfsctl.gvariant.values import Just, Value, Variant

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.gvariant.reading import Budget, Reader

_CACHED_SIZE: Final = 64
"""Characters up to which a variant's type string has its reader remembered."""


def _fail(what: str, expected: str, found: object, offset: int) -> NoReturn:
    shown = what if len(what) <= 40 else what[:37] + "..."
    raise GVariantError(
        f"{shown}: expected {expected}, found {found} at byte {offset}",
        offset=offset,
        field=what,
    )


@lru_cache(maxsize=512)
def _cached_reader(signature: str) -> Reader:
    return _make_reader(parse_type(signature))


def make_reader(type_: Type) -> Reader:
    """Return the strict reader of a definite type."""
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
            return _fixed_tuple_reader(type_) if type_.fixed_size else _tuple_reader(type_)
        case _:
            raise GVariantError(f"type string: expected a definite type, found {type_.signature!r}")


def _number_reader(type_: Type) -> Reader:
    signature = type_.signature
    if signature == "b":
        return _read_boolean
    unpack_from = struct.Struct("<" + STRUCT_CODES[signature]).unpack_from
    size = type_.fixed_size

    def read(data: bytes, start: int, end: int, _depth: int, _budget: Budget) -> Value:
        if end - start != size:
            _fail(signature, f"{size} bytes", end - start, start)
        return cast("int | float", unpack_from(data, start)[0])

    return read


def _read_boolean(data: bytes, start: int, end: int, _depth: int, _budget: Budget) -> Value:
    if end - start != 1:
        _fail("b", "1 byte", end - start, start)
    if data[start] > 1:
        _fail("b", "0 or 1", data[start], start)
    return data[start] == 1


def _string_reader(type_: Type) -> Reader:
    signature = type_.signature
    is_valid = {"o": is_object_path, "g": is_signature}.get(signature)

    def read(data: bytes, start: int, end: int, _depth: int, budget: Budget) -> Value:
        if signature == "g":
            budget.charge(end - start)
        if start == end or data[end - 1]:
            _fail(signature, "a final NUL", "none", end)
        if data.find(b"\0", start, end) != end - 1:
            _fail(signature, "no NUL but the last byte", "another", start)
        try:
            text = data[start : end - 1].decode()
        except UnicodeDecodeError as error:
            raise GVariantError(
                f"{signature}: expected UTF-8, found {error.reason} at byte {start + error.start}",
                offset=start + error.start,
                field=signature,
            ) from error
        if is_valid is not None and not is_valid(text):
            _fail(signature, "an object path" if signature == "o" else "type strings", "other text", start)
        return text

    return read


def _read_variant(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
    split = data.rfind(b"\0", start, end)
    if split < 0:
        _fail("v", "a NUL before the type string", "none", start)
    try:
        child = parse_type(data[split + 1 : end].decode("ascii"))
    except UnicodeDecodeError as error:
        raise GVariantError(f"v: expected a type string, found other bytes at {split + 1}") from error
    if depth + child.depth >= MAX_DEPTH:
        _fail("v", f"at most {MAX_DEPTH} levels", depth + child.depth, start)
    budget.charge(len(child.signature))  # at least its weight, and what reading the type costs
    return Variant(child.signature, make_reader(child)(data, start, split, depth + 1, budget))


def _maybe_reader(type_: MaybeType) -> Reader:
    element = make_reader(type_.element)
    is_fixed = type_.element.fixed_size is not None
    weight = type_.element.weight

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        if start == end:
            return None
        budget.charge(weight)
        if is_fixed:
            return Just(element(data, start, end, depth + 1, budget))
        if data[end - 1]:
            _fail(type_.signature, "a final zero byte", data[end - 1], end - 1)
        return Just(element(data, start, end - 1, depth + 1, budget))

    return read


# --- arrays -------------------------------------------------------------------------------------


def _array_reader(type_: ArrayType) -> Reader:
    element = type_.element
    if element.signature == "y":
        return _read_bytes
    if element.signature == "b":
        return _read_booleans
    if element.fixed_size is None:
        return _variable_array_reader(type_)
    if isinstance(element, NumberType):
        return _number_array_reader(type_, STRUCT_CODES[element.signature])
    return _fixed_array_reader(type_)


def _read_bytes(data: bytes, start: int, end: int, _depth: int, _budget: Budget) -> Value:
    return data[start:end]


def _read_booleans(data: bytes, start: int, end: int, _depth: int, budget: Budget) -> Value:
    budget.charge(end - start)
    part = data[start:end]
    if part.strip(b"\0\1"):
        _fail("ab", "bytes of 0 and 1", "another", start)
    return [byte == 1 for byte in part]


def _fixed_count(type_: ArrayType, size: int, start: int) -> int:
    element_size = type_.element.fixed_size or 1
    if size % element_size:
        _fail(type_.signature, f"a multiple of {element_size} bytes", size, start)
    return size // element_size


def _number_array_reader(type_: ArrayType, code: str) -> Reader:
    def read(data: bytes, start: int, end: int, _depth: int, budget: Budget) -> Value:
        count = _fixed_count(type_, end - start, start)
        budget.charge(count)
        return list(struct.unpack_from(f"<{count}{code}", data, start))

    return read


def _fixed_array_reader(type_: ArrayType) -> Reader:
    element = make_reader(type_.element)
    size = type_.element.fixed_size or 1
    weight = type_.element.weight

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        budget.charge(_fixed_count(type_, end - start, start) * weight)
        inner = depth + 1
        return [element(data, place, place + size, inner, budget) for place in range(start, end, size)]

    return read


def find_array_ends(type_: ArrayType, data: bytes, start: int, end: int) -> Sequence[int]:
    """Return the checked offset table of an array that is not empty; the values are unchecked."""
    size = end - start
    width = offset_width(size)
    table = int.from_bytes(data[end - width : end], "little")
    count, remainder = divmod(size - table, width)
    if count < 1 or remainder:
        _fail(
            type_.signature, f"whole offsets of {width} bytes", f"a table from {table} to {size}", end - width
        )
    if not is_minimal(table, count, size):
        _fail(type_.signature, "offsets of the smallest width", f"{width} bytes", start + table)
    return read_offsets(data, start + table, count, width)


def _variable_array_reader(type_: ArrayType) -> Reader:
    element = make_reader(type_.element)
    weight = type_.element.weight
    padding = type_.element.alignment - 1

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        if start == end:
            return []
        ends = find_array_ends(type_, data, start, end)
        budget.charge(len(ends) * weight)
        limit = start + ends[-1]
        inner = depth + 1
        if not padding and all(first <= last for first, last in pairwise(ends)):
            bounds = pairwise((0, *ends))
            return [element(data, start + first, start + last, inner, budget) for first, last in bounds]
        values = []
        position = start
        for offset in ends:
            stop = start + offset
            if position & padding:
                position = skip_padding(data, position, padding, limit)
            if not position <= stop <= limit:
                _fail(type_.signature, f"an end from {position} to {limit}", stop, position)
            values.append(element(data, position, stop, inner, budget))
            position = stop
        return values

    return read


def skip_padding(data: bytes, position: int, padding: int, limit: int) -> int:
    """Return the next aligned position, having checked that zero bytes lead to it within the limit."""
    aligned = position + (-position & padding)
    if aligned > limit or data[position:aligned].strip(b"\0"):
        _fail("padding", f"{aligned - position} zero bytes", "none or others", position)
    return aligned


# --- tuples -------------------------------------------------------------------------------------


def _fixed_tuple_reader(type_: TupleType) -> Reader:
    """Return the reader of a tuple whose layout never changes."""
    size = type_.fixed_size or 1
    members, gaps = _fixed_layout(type_)

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        if end - start != size:
            _fail(type_.signature, f"{size} bytes", end - start, start)
        for first, last in gaps:
            if data[start + first : start + last].strip(b"\0"):
                _fail(type_.signature, "padding of zero bytes", "others", start + first)
        inner = depth + 1
        return tuple([element(data, start + a, start + b, inner, budget) for element, a, b in members])

    codes = [STRUCT_CODES.get(member.signature) for member in type_.members]
    if gaps or None in codes:
        return read
    unpack_from = struct.Struct("<" + "".join(code for code in codes if code)).unpack_from

    def read_numbers(data: bytes, start: int, end: int, _depth: int, _budget: Budget) -> Value:
        if end - start != size:
            _fail(type_.signature, f"{size} bytes", end - start, start)
        return unpack_from(data, start)

    return read_numbers


def _fixed_layout(type_: TupleType) -> tuple[list[tuple[Reader, int, int]], list[tuple[int, int]]]:
    """Return where the members of a fixed-size tuple are, and where its padding is."""
    members = []
    gaps = []
    position = 0
    for member in type_.members:
        start = position + (-position & (member.alignment - 1))
        end = start + (member.fixed_size or 0)
        gaps.append((position, start))
        members.append((make_reader(member), start, end))
        position = end
    gaps.append((position, type_.fixed_size or 1))
    return members, [gap for gap in gaps if gap[0] < gap[1]]


def _tuple_reader(type_: TupleType) -> Reader:
    """Return the reader of a tuple that has a member of variable size."""
    last = len(type_.members) - 1
    steps = [
        (
            make_reader(member),
            member.alignment - 1,
            member.fixed_size,
            member.fixed_size is None and index < last,
        )
        for index, member in enumerate(type_.members)
    ]
    count = type_.offset_count

    def read(data: bytes, start: int, end: int, depth: int, budget: Budget) -> Value:
        width = offset_width(end - start)
        table = end - width * count
        if table < start:
            _fail(type_.signature, f"{count} offsets of {width} bytes", f"{end - start} bytes", start)
        place = end
        position = start
        values = []
        for element, padding, size, has_offset in steps:
            if position & padding:
                position = skip_padding(data, position, padding, table)
            if size is not None:
                stop = position + size
            elif has_offset:
                place -= width
                stop = start + int.from_bytes(data[place : place + width], "little")
            else:
                stop = table
            if not position <= stop <= table:
                _fail(type_.signature, f"an end from {position} to {table}", stop, position)
            values.append(element(data, position, stop, depth + 1, budget))
            position = stop
        if position != table or not is_minimal(table - start, count, end - start):
            _fail(type_.signature, "members up to offsets of the smallest width", "a gap", position)
        return tuple(values)

    return read
