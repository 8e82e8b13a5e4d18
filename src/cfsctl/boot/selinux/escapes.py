"""Escapes in regular expressions: what stands behind a backslash."""

from __future__ import annotations

import re
from typing import Final


class PatternError(ValueError):
    """An expression that is invalid in both dialects."""


class UnsupportedPatternError(PatternError):
    """An expression that only PCRE2 understands."""


class NeedsPcreError(Exception):
    """Rust's syntax rejects this expression: read it once more as PCRE2 does."""


CONTROL_ESCAPES: Final = {"a": 7, "f": 12, "n": 10, "r": 13, "t": 9, "v": 11}
_CODES: Final = (
    (re.compile(r"\\x([0-9A-Fa-f]{2})"), 16, True),
    (re.compile(r"\\x\{([0-9A-Fa-f]{1,8})\}"), 16, False),
    (re.compile(r"\\u([0-9A-Fa-f]{4})"), 16, False),
    (re.compile(r"\\u\{([0-9A-Fa-f]{1,8})\}"), 16, False),
    (re.compile(r"\\U([0-9A-Fa-f]{8})"), 16, False),
    (re.compile(r"\\o\{([0-7]{1,8})\}"), 8, True),
)


def require_pcre(*, is_pcre: bool) -> None:
    """Check that the expression means the same here as in PCRE2.

    Raises:
        NeedsPcreError: It is read as Rust reads it.
    """
    if not is_pcre:
        raise NeedsPcreError


def read_escape(text: str, at: int, *, is_pcre: bool) -> tuple[int | str, int]:
    """Return the byte or the character that an escape stands for, and the offset behind it.

    Args:
        text: The expression.
        at: Offset of the backslash.
        is_pcre: Whether the expression is read as PCRE2 reads it.

    Raises:
        PatternError: The escape is unknown or cut off.
        UnsupportedPatternError: `re` has nothing that means the same.
        NeedsPcreError: Only PCRE2 knows the escape.
    """
    if at + 1 >= len(text):
        raise PatternError("backslash at the end of the expression")
    char, after = text[at + 1], at + 2
    if char in CONTROL_ESCAPES:
        return CONTROL_ESCAPES[char], after
    if char == "e":
        require_pcre(is_pcre=is_pcre)
        return 27, after
    if char == "c" and after < len(text) and text[after].isascii():
        require_pcre(is_pcre=is_pcre)
        return ord(text[after].upper()) ^ 64, after + 1
    for pattern, base, is_byte in _CODES:
        found = pattern.match(text, at)
        if found is not None:
            return _convert(int(found[1], base), is_byte=is_byte), found.end()
    return _read_plain(char, at, is_pcre=is_pcre), after


def _read_plain(char: str, at: int, *, is_pcre: bool) -> str:
    """Return a character that an escape only strips of its meaning."""
    if char.isalnum() and char.isascii():
        if char in "pPRX":
            raise UnsupportedPatternError(f"\\{char} at offset {at}")
        raise PatternError(f"unrecognized character follows \\ at offset {at + 1}")
    if not char.isascii() or char in "_ ":
        # Rust allows escapes of ASCII punctuation only, PCRE2 of all that is not a letter or digit.
        require_pcre(is_pcre=is_pcre)
    return char


def _convert(value: int, *, is_byte: bool) -> int | str:
    if is_byte and value < 256:
        return value
    if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF:
        raise PatternError(f"character code {value:#x} is too large")
    return chr(value)
