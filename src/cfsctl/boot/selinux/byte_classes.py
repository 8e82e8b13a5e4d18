"""Classes in regular expressions, read as the set of bytes that they match."""

from __future__ import annotations

import re
import string
from typing import TYPE_CHECKING, Final

from cfsctl.boot.selinux.escapes import (
    PatternError,
    UnsupportedPatternError,
    read_escape,
    require_pcre,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_DEPTH: Final = 100
"""Deepest nesting of classes and of groups; deeper ones would exhaust the stack of `re`."""

_ALL: Final = frozenset(range(256))
_SPACE: Final = frozenset(b" \t\n\r\f\v")
_DIGIT: Final = frozenset(string.digits.encode())
_WORD: Final = frozenset((string.ascii_letters + string.digits + "_").encode())
_POSIX_NAME: Final = re.compile(r"\[:(\^?)([a-z]+):\]")
_POSIX: Final[dict[str, frozenset[int]]] = {
    "alnum": frozenset((string.ascii_letters + string.digits).encode()),
    "alpha": frozenset(string.ascii_letters.encode()),
    "ascii": frozenset(range(128)),
    "blank": frozenset(b" \t"),
    "cntrl": frozenset([*range(32), 127]),
    "digit": _DIGIT,
    "graph": frozenset(range(33, 127)),
    "lower": frozenset(string.ascii_lowercase.encode()),
    "print": frozenset(range(32, 127)),
    "punct": frozenset(string.punctuation.encode()),
    "space": _SPACE,
    "upper": frozenset(string.ascii_uppercase.encode()),
    "word": _WORD,
    "xdigit": frozenset(string.hexdigits.encode()),
}
CLASS_ESCAPES: Final = {
    "w": _WORD,
    "W": _ALL - _WORD,
    "d": _DIGIT,
    "D": _ALL - _DIGIT,
    "s": _SPACE,
    "S": _ALL - _SPACE,
}
PCRE_CLASS_ESCAPES: Final = {"h": frozenset(b" \t\xa0"), "N": _ALL - frozenset(b"\n")}


class ClassReader:
    """Reads a class in brackets as the set of bytes that it matches."""

    def __init__(self, text: str, *, is_pcre: bool) -> None:
        """Take the expression; `is_pcre` says whether it is read as PCRE2 reads it."""
        self._text = text
        self._is_pcre = is_pcre

    def read(self, at: int, depth: int = 0) -> tuple[frozenset[int], int]:
        """Return the members of the class whose bracket is at `at`, and the offset behind it.

        Raises:
            PatternError: The class is invalid.
            UnsupportedPatternError: `re` has nothing that means the same.
            NeedsPcreError: Only PCRE2 accepts the class.
        """
        if depth > MAX_DEPTH:
            raise PatternError(f"classes nested deeper than {MAX_DEPTH}")
        text = self._text
        at += 1
        is_negated = text.startswith("^", at)
        at += is_negated
        members, at = self._read_items(at, depth)
        return (_ALL - members if is_negated else members), at

    def _read_items(self, at: int, depth: int) -> tuple[frozenset[int], int]:
        text, start = self._text, at
        members: frozenset[int] = frozenset()
        while True:
            if at >= len(text):
                raise PatternError("missing closing bracket of a class")
            if text[at] == "]" and at > start:
                return members, at + 1
            operator = text[at : at + 2]
            if operator in {"&&", "--", "~~"} and not (operator == "--" and at == start):
                other, at = self._read_operand(at + 2, depth)
                members = _OPERATORS[operator](members, other)
                return members, at
            found, at = self._read_item(at, depth)
            members |= found

    def _read_operand(self, at: int, depth: int) -> tuple[frozenset[int], int]:
        """Return what follows an operator up to the end of the class."""
        if self._text.startswith("]", at):
            return frozenset(), at + 1
        return self._read_items(at, depth)

    def _read_item(self, at: int, depth: int) -> tuple[frozenset[int], int]:
        text = self._text
        if text[at] == "[":
            posix = _POSIX_NAME.match(text, at)
            if posix is not None and posix[2] in _POSIX:
                found = _POSIX[posix[2]]
                return (_ALL - found if posix[1] else found), posix.end()
            return self.read(at, depth + 1)
        if text[at] == "\\" and text[at + 1 : at + 2] in CLASS_ESCAPES:
            return CLASS_ESCAPES[text[at + 1]], at + 2
        low, at = self._read_character(at)
        if text.startswith("-", at) and text[at + 1 : at + 2] not in {"]", "", "-"}:
            high, end = self._read_character(at + 1)
            if isinstance(low, int) and isinstance(high, int):
                if high < low:
                    raise PatternError(f"range out of order in character class at offset {at - 1}")
                return frozenset(range(low, high + 1)), end
            raise UnsupportedPatternError(f"a range of characters that are not ASCII at offset {at}")
        return frozenset([low] if isinstance(low, int) else low.encode("utf-8", "surrogateescape")), at

    def _read_character(self, at: int) -> tuple[int | str, int]:
        char = self._text[at]
        if char == "\\":
            code, after = read_escape(self._text, at, is_pcre=self._is_pcre)
            return (ord(code) if isinstance(code, str) and code.isascii() else code), after
        if not char.isascii():
            require_pcre(is_pcre=self._is_pcre)  # which takes the bytes one by one
            return char, at + 1
        return ord(char), at + 1


def format_class(members: frozenset[int]) -> bytes:
    """Return a class for `re`, in ranges of numbers so that no character has a meaning of its own."""
    if not members:
        return b"(?!)"
    ranges: list[list[int]] = []
    for byte in sorted(members):
        if ranges and ranges[-1][1] == byte - 1:
            ranges[-1][1] = byte
        else:
            ranges.append([byte, byte])
    return b"[" + b"".join(b"\\x%02x-\\x%02x" % (low, high) for low, high in ranges) + b"]"


_OPERATORS: Final[dict[str, Callable[[frozenset[int], frozenset[int]], frozenset[int]]]] = {
    "&&": frozenset.__and__,
    "--": frozenset.__sub__,
    "~~": frozenset.__xor__,
}
