"""GVariant type strings as trees of objects that know alignment and fixed size.

Trees of short type strings are cached and shared; they are immutable. Depth and length are bounded
before anything is built, so that a type string from outside costs no more than its bytes.

Format: GVariant specification, section 2.3 (types) and 2.5 (serialisation).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Final, NoReturn

from cfsctl.errors import FormatError

MAX_DEPTH: Final = 128
"""Levels of containers in a type, or in a value and the types of its variants; as in GLib."""

MAX_TYPE_SIZE: Final = 65536
"""Characters of a type string; real ones have fewer than fifty."""

_CACHED_SIZE: Final = 256
"""Characters up to which a type string's tree is remembered."""

BASIC_SIZES: Final = {"y": 1, "b": 1, "n": 2, "q": 2, "i": 4, "u": 4, "h": 4, "x": 8, "t": 8, "d": 8}
"""Basic types of fixed size, which is their alignment too."""

INDEFINITE: Final = "*?r"
"""Types that stand for others: any, any basic, any tuple."""

_KEYS: Final = frozenset("bynqiuxtdsogh")


class GVariantError(FormatError):
    """Invalid serialised data, or an invalid type string."""


class Type:
    """A type.

    Attributes:
        signature: Its type string.
        alignment: 1, 2, 4 or 8 bytes.
        fixed_size: Bytes of every value, or None if that varies.
        depth: 1 for what holds nothing, else 1 more than the deepest type inside.
        weight: Values that one value consists of at least: itself and the members of its tuples.
    """

    __slots__ = ("alignment", "depth", "fixed_size", "signature", "weight")

    def __init__(
        self, signature: str, alignment: int, fixed_size: int | None, depth: int = 1, weight: int = 1
    ) -> None:
        """Store the properties."""
        self.signature = signature
        self.alignment = alignment
        self.fixed_size = fixed_size
        self.depth = depth
        self.weight = weight

    def __repr__(self) -> str:
        """Show class and type string."""
        return f"{type(self).__name__}({self.signature!r})"


class NumberType(Type):
    """A boolean, integer or floating-point number: ``b y n q i u h x t d``."""

    __slots__ = ()


class StringType(Type):
    """A string ``s``, object path ``o`` or signature ``g``."""

    __slots__ = ()


class VariantType(Type):
    """A value that carries its type: ``v``."""

    __slots__ = ()


class IndefiniteType(Type):
    """A pattern, ``* ? r``; no value has this type."""

    __slots__ = ()


class MaybeType(Type):
    """Nothing or one value: ``mT``."""

    __slots__ = ("element",)

    def __init__(self, element: Type) -> None:
        """Derive the properties from the element's."""
        super().__init__("m" + element.signature, element.alignment, None, element.depth + 1)
        self.element = element


class ArrayType(Type):
    """Any number of values of one type: ``aT``."""

    __slots__ = ("element",)

    def __init__(self, element: Type) -> None:
        """Derive the properties from the element's."""
        super().__init__("a" + element.signature, element.alignment, None, element.depth + 1)
        self.element = element


class TupleType(Type):
    """A tuple ``(...)`` or dictionary entry ``{kv}``.

    Attributes:
        members: Types of the members.
        offset_count: End offsets that a value stores: one per member of variable size but the last.
    """

    __slots__ = ("members", "offset_count")

    def __init__(self, signature: str, members: tuple[Type, ...]) -> None:
        """Derive the properties from the members'."""
        super().__init__(
            signature,
            max((member.alignment for member in members), default=1),
            _fixed_tuple_size(members),
            1 + max((member.depth for member in members), default=0),
            1 + sum(member.weight for member in members),
        )
        self.members = members
        self.offset_count = sum(member.fixed_size is None for member in members[:-1])


def _fixed_tuple_size(members: tuple[Type, ...]) -> int | None:
    """Return the size of a tuple whose members all have one; the empty tuple is one byte."""
    end = 0
    alignment = 1
    for member in members:
        if member.fixed_size is None:
            return None
        alignment = max(alignment, member.alignment)
        end = align(end, member.alignment) + member.fixed_size
    return align(end, alignment) or 1


def align(offset: int, alignment: int) -> int:
    """Return the first multiple of `alignment`, a power of two, from `offset` on."""
    return offset + (-offset & (alignment - 1))


_SIMPLE: Final[dict[str, Type]] = {
    **{code: NumberType(code, size, size) for code, size in BASIC_SIZES.items()},
    **{code: StringType(code, 1, None) for code in "sog"},
    "v": VariantType("v", 8, None),
}
_PATTERNS: Final[dict[str, Type]] = {code: IndefiniteType(code, 8, None) for code in INDEFINITE}


def parse_type(text: str, *, definite: bool = True) -> Type:
    """Return the type that a type string describes.

    Args:
        text: One complete type.
        definite: Whether to refuse patterns (``* ? r``).

    Raises:
        GVariantError: Not one complete type, deeper than 128 levels, or above 65,536 characters.
    """
    return (_parse_cached if len(text) <= _CACHED_SIZE else _parse)(text, definite)


def _parse(text: str, definite: bool) -> Type:  # noqa: FBT001 - the cache needs it positional
    if len(text) > MAX_TYPE_SIZE:
        raise GVariantError(f"type string: expected at most {MAX_TYPE_SIZE} characters, found {len(text)}")
    parser = _Parser(text, definite=definite)
    parsed = parser.read(MAX_DEPTH)
    if parser.position != len(text):
        parser.fail("the end of the type string")
    return parsed


_parse_cached = lru_cache(maxsize=512)(_parse)


def check_signature(text: str) -> None:
    """Check a list of complete definite types, as a value of type ``g`` holds it.

    Raises:
        GVariantError: Not such a list.
    """
    if len(text) > MAX_TYPE_SIZE:
        raise GVariantError(f"signature: expected at most {MAX_TYPE_SIZE} characters, found {len(text)}")
    parser = _Parser(text, definite=True)
    while parser.position < len(text):
        parser.read(MAX_DEPTH)


class _Parser:
    """A position in a type string, and the types that may stand there."""

    __slots__ = ("_simple", "position", "text")

    def __init__(self, text: str, *, definite: bool) -> None:
        self.text = text
        self.position = 0
        self._simple = _SIMPLE if definite else _SIMPLE | _PATTERNS

    def fail(self, expected: str) -> NoReturn:
        """Raise an error for what stands at the position."""
        found = self.text[self.position : self.position + 1]
        raise GVariantError(
            f"type string {_cut(self.text)}: expected {expected}, "
            f"found {repr(found) if found else 'its end'} at {self.position}",
            offset=self.position,
        )

    def read(self, depth: int) -> Type:
        """Read one type of at most `depth` levels."""
        code = self.text[self.position : self.position + 1]
        simple = self._simple.get(code)
        if simple is not None:
            self.position += 1
            return simple
        if not depth:
            self.fail(f"at most {MAX_DEPTH} levels")
        if not code or code not in "am({":
            self.fail("a type")
        self.position += 1
        if code == "a":
            return ArrayType(self.read(depth - 1))
        if code == "m":
            return MaybeType(self.read(depth - 1))
        return self._read_tuple(depth) if code == "(" else self._read_entry(depth)

    def _read_tuple(self, depth: int) -> Type:
        start = self.position - 1
        members = []
        while not self.text.startswith(")", self.position):
            members.append(self.read(depth - 1))
        self.position += 1
        return TupleType(self.text[start : self.position], tuple(members))

    def _read_entry(self, depth: int) -> Type:
        start = self.position - 1
        key = self.read(depth - 1)
        if key.signature not in _KEYS and key.signature != "?":
            self.position = start + 1
            self.fail("a basic type as key")
        value = self.read(depth - 1)
        if not self.text.startswith("}", self.position):
            self.fail("'}'")
        self.position += 1
        return TupleType(self.text[start : self.position], (key, value))


def _cut(text: str) -> str:
    return repr(text) if len(text) <= 60 else f"{text[:57]!r}..."
