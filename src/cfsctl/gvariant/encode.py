"""Values to bytes, in normal form.

What is written is what `decode` accepts strictly: padding is zero, offsets have the smallest width.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final, NoReturn

from cfsctl.gvariant.framing import format_offsets
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
from cfsctl.gvariant.values import Just, Variant

_STRING_CHECKS: Final = {"o": is_object_path, "g": is_signature}


def encode(type_: str | Type, value: object) -> bytes:
    """Encode a value.

    Args:
        type_: Its type, which is definite.
        value: As `cfsctl.gvariant.values` says; any sequence will do for an array or tuple.

    Raises:
        TypeError: A value of another kind than its type.
        ValueError: A number out of range, a text that its type does not allow, a tuple of another
            length, or variants nested too deeply.
        GVariantError: The type string is invalid or indefinite.
    """
    return _encode(parse_type(type_ if isinstance(type_, str) else type_.signature), value, 0)


def _encode(type_: Type, value: object, depth: int) -> bytes:
    match type_:
        case NumberType():
            return _encode_number(type_.signature, value)
        case StringType():
            return _encode_string(type_.signature, value)
        case VariantType():
            return _encode_variant(value, depth)
        case MaybeType():
            return _encode_maybe(type_, value, depth)
        case ArrayType():
            return _encode_array(type_, value, depth)
        case TupleType():
            return _encode_tuple(type_, value, depth)
        case _:
            raise GVariantError(f"type string: expected a definite type, found {type_.signature!r}")


def _mismatch(signature: str, expected: str, value: object) -> NoReturn:
    raise TypeError(f"{signature}: expected {expected}, found {type(value).__name__}")


def _encode_number(signature: str, value: object) -> bytes:
    if signature == "b":
        if not isinstance(value, bool):
            _mismatch(signature, "bool", value)
        return b"\1" if value else b"\0"
    if not isinstance(value, float if signature == "d" else int) or isinstance(value, bool):
        _mismatch(signature, "a number", value)
    try:
        return struct.pack("<" + STRUCT_CODES[signature], value)
    except struct.error as error:
        raise ValueError(f"{signature}: expected a number in range, found {value}") from error


def _encode_string(signature: str, value: object) -> bytes:
    if not isinstance(value, str):
        _mismatch(signature, "str", value)
    check = _STRING_CHECKS.get(signature)
    if "\0" in value or (check is not None and not check(value)):
        raise ValueError(f"{signature}: expected text of this type, found {value!r}")
    return value.encode() + b"\0"


def _encode_variant(value: object, depth: int) -> bytes:
    if not isinstance(value, Variant):
        _mismatch("v", "Variant", value)
    child = parse_type(value.type)
    if depth + child.depth >= MAX_DEPTH:
        raise ValueError(f"v: expected at most {MAX_DEPTH} levels, found {depth + child.depth}")
    return b"".join((_encode(child, value.value, depth + 1), b"\0", value.type.encode()))


def _encode_maybe(type_: MaybeType, value: object, depth: int) -> bytes:
    if value is None:
        return b""
    if not isinstance(value, Just):
        _mismatch(type_.signature, "Just or None", value)
    encoded = _encode(type_.element, value.value, depth + 1)
    return encoded if type_.element.fixed_size is not None else encoded + b"\0"


def _encode_array(type_: ArrayType, value: object, depth: int) -> bytes:
    if type_.element.signature == "y" and isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        _mismatch(type_.signature, "a sequence", value)
    body = _Body()
    element = type_.element
    for item in value:
        body.add(element.alignment, _encode(element, item, depth + 1))
        if element.fixed_size is None:
            body.mark()
    return body.finish()


def _encode_tuple(type_: TupleType, value: object, depth: int) -> bytes:
    if not isinstance(value, Sequence) or isinstance(value, str | bytes | bytearray | memoryview):
        _mismatch(type_.signature, "a sequence", value)
    if len(value) != len(type_.members):
        raise ValueError(f"{type_.signature}: expected {len(type_.members)} members, found {len(value)}")
    body = _Body()
    last = len(value) - 1
    for index, (member, item) in enumerate(zip(type_.members, value, strict=True)):
        body.add(member.alignment, _encode(member, item, depth + 1))
        if member.fixed_size is None and index < last:
            body.mark()
    if type_.fixed_size is not None:
        return body.pad_to(type_.fixed_size)
    body.ends.reverse()
    return body.finish()


class _Body:
    """The children of a container and where they end."""

    __slots__ = ("_parts", "_size", "ends")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._size = 0
        self.ends: list[int] = []

    def add(self, alignment: int, part: bytes) -> None:
        """Append a child at its alignment."""
        padding = -self._size & (alignment - 1)
        if padding:
            self._parts.append(bytes(padding))
        self._parts.append(part)
        self._size += padding + len(part)

    def mark(self) -> None:
        """Record the end of the last child in the offset table."""
        self.ends.append(self._size)

    def pad_to(self, size: int) -> bytes:
        """Return the body, filled with zeros up to `size`."""
        return b"".join((*self._parts, bytes(size - self._size)))

    def finish(self) -> bytes:
        """Return the body and its offset table."""
        return b"".join((*self._parts, format_offsets(self._size, self.ends)))
