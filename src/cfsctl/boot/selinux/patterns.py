r"""Regular expressions of SELinux file contexts, translated for Python's `re`.

The digests of bootable images depend on which paths a pattern matches, so the dialect is exactly that of the
original: byte-oriented Rust expressions, and PCRE2 for patterns that Rust's syntax rejects. Most patterns
mean the same in both and in Python. What differs is rewritten here:

* ``.`` matches every byte but a newline does not end it, unless PCRE2 reads the pattern.
* ``$`` matches at the very end only.
* Classes may be nested, may contain POSIX classes and the operators ``&&``, ``--`` and ``~~``; each becomes a
  plain class of bytes.
* A quantifier behind a quantifier repeats the repetition; it does not make it possessive or lazy.
* A quantifier behind a character that is not ASCII repeats all of its bytes.
* Flags such as ``(?i)`` apply up to the end of the enclosing group.
* Groups are numbered with the one that is put round the whole expression, so ``\2`` is the first of the
  line, and ``\1``, which never ends before it is used, never matches.

A pattern that cannot be rewritten is left to the package ``pcre2``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, NoReturn

from cfsctl.boot.selinux.byte_classes import (
    CLASS_ESCAPES,
    MAX_DEPTH,
    PCRE_CLASS_ESCAPES,
    ClassReader,
    format_class,
)
from cfsctl.boot.selinux.escapes import (
    NeedsPcreError,
    PatternError,
    UnsupportedPatternError,
    read_escape,
    require_pcre,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MAX_PATTERN_LENGTH: Final = 4096
"""Longest expression that is compiled, characters; those of real policies have some 200."""

_MAX_REPEAT: Final = 1000
"""Largest count in braces; PCRE2 allows 65535, which takes `re` minutes to compile."""

_COUNT: Final = re.compile(r"\{(\d+)(,(\d*))?\}")
_FLAGS: Final = re.compile(r"\(\?([a-zA-Z]*)(?:-([a-zA-Z]+))?([:)])")
_NAME: Final = re.compile(r"\(\?P?<([A-Za-z_][A-Za-z0-9_]*)>")
_LOOK: Final = ("(?=", "(?!", "(?<=", "(?<!", "(?>")


@dataclass(frozen=True, slots=True)
class Translation:
    """An expression for `re`.

    Attributes:
        pattern: For `re.compile`, with a group round the whole.
        flags: For `re.compile`.
        prefix: Bytes with which everything that matches begins.
    """

    pattern: bytes
    flags: re.RegexFlag
    prefix: bytes


def compile_pattern(regex: str, suffix: str) -> Callable[[bytes], object]:
    """Return a function that tells whether a path, followed by the letter of its type, matches.

    Args:
        regex: The expression of a line in ``file_contexts``.
        suffix: Expression for the letter: the letter itself, or ``.`` for every type.

    Raises:
        PatternError: The expression is invalid.
        UnsupportedPatternError: It needs the package ``pcre2``, which is not installed.
    """
    try:
        translation = translate(regex, suffix)
        return re.compile(translation.pattern, translation.flags).search
    except UnsupportedPatternError:
        return _compile_with_pcre2(regex, suffix)
    except (re.error, OverflowError, RecursionError) as error:
        raise PatternError(str(error)) from error


def _compile_with_pcre2(regex: str, suffix: str) -> Callable[[bytes], object]:
    try:
        import pcre2
    except ImportError:
        raise UnsupportedPatternError("this expression needs the Python package 'pcre2'") from None
    try:
        compiled = pcre2.compile(f"^({regex}){suffix}$".encode())
    except pcre2.LibraryError as error:
        raise PatternError(f"PCRE2: {error}") from error

    def match(subject: bytes) -> object:
        try:
            return compiled.match(subject)
        except pcre2.LibraryError:
            # It recurses or backtracks without end, which is no match to the original: so are its labels.
            return None

    return match


def translate(regex: str, suffix: str) -> Translation:
    """Return the expression that matches in `re` what the original matches.

    Raises:
        PatternError: The expression is invalid.
        UnsupportedPatternError: `re` has nothing that means the same.
    """
    if len(regex) > MAX_PATTERN_LENGTH:
        raise PatternError(f"longer than {MAX_PATTERN_LENGTH} characters")
    try:
        return _Translator(f"^({regex}){suffix}$", is_pcre=False).run()
    except NeedsPcreError:
        return _Translator(f"^({regex}){suffix}$", is_pcre=True).run()


class _Translator:
    """Reads an expression once, from left to right, and writes its translation."""

    def __init__(self, text: str, *, is_pcre: bool) -> None:
        self._text = text
        self._at = 0
        self._is_pcre = is_pcre
        self._out: list[bytes] = []
        self._atom: int | None = None
        """Where the item that a quantifier would repeat begins in `_out`; None if none exists."""
        self._groups: list[_Group] = [_Group(start=0)]
        self._prefix = bytearray()
        self._prefix_is_open = True

    def run(self) -> Translation:
        """Translate the whole expression."""
        while self._at < len(self._text):
            self._step(self._text[self._at])
        if len(self._groups) > 1:
            raise PatternError("missing closing parenthesis")
        self._close_flags(self._groups[0])
        flags = re.NOFLAG if self._is_pcre else re.DOTALL
        return Translation(b"".join(self._out), flags, bytes(self._prefix))

    def _step(self, char: str) -> None:
        handler = self._HANDLERS.get(char)
        if handler is not None:
            handler(self)
        else:
            self._at += 1
            self._literal(char)

    def _needs_pcre(self) -> None:
        require_pcre(is_pcre=self._is_pcre)

    def _unsupported(self, what: str) -> NoReturn:
        raise UnsupportedPatternError(f"{what} at offset {self._at}")

    # --- what is repeated

    def _emit(self, piece: bytes) -> None:
        """Write one item that a quantifier may follow."""
        self._atom = len(self._out)
        self._out.append(piece)

    def _literal(self, char: str) -> None:
        data = char.encode("utf-8", "surrogateescape")
        if len(data) > 1 and not self._is_pcre:
            self._emit(b"(?:" + re.escape(data) + b")")
        else:
            # PCRE2 sees bytes, so that a quantifier behind them repeats the last one only.
            for byte in data:
                self._emit(re.escape(bytes([byte])))
        self._extend_prefix(data)

    def _extend_prefix(self, data: bytes) -> None:
        """Lengthen the prefix by a literal, unless something else came before or a quantifier follows."""
        following = self._text[self._at : self._at + 1]
        if following in {"*", "?", "+", "{"}:
            self._prefix_is_open = False
        if self._prefix_is_open and len(self._groups) == 2:  # within the group round the whole
            self._prefix += data

    def _quantifier(self) -> None:
        char = self._text[self._at]
        if char == "{":
            found = _COUNT.match(self._text, self._at)
            if found is None:
                self._needs_pcre()  # which takes the brace as itself
                self._at += 1
                self._literal("{")
                return
            low, high = int(found[1]), int(found[3] or found[1])
            if high < low:
                raise PatternError(f"numbers out of order in braces at offset {self._at}")
            if high > _MAX_REPEAT and high != low:
                self._unsupported(f"a count above {_MAX_REPEAT}")
            piece = found[0].encode()
            self._at = found.end()
        else:
            piece = char.encode()
            self._at += 1
        self._prefix_is_open = False
        if self._atom is None:
            raise PatternError(f"quantifier does not follow a repeatable item at offset {self._at - 1}")
        if self._text[self._at : self._at + 1] == "?":  # lazy: the same paths match
            self._at += 1
        self._out[self._atom :] = [b"(?:", *self._out[self._atom :], b")", piece]
        # Once more round it, so that a further quantifier repeats the repetition.
        self._out[self._atom :] = [b"(?:" + b"".join(self._out[self._atom :]) + b")"]

    # --- anchors, alternatives, groups

    def _dot(self) -> None:
        self._at += 1
        self._prefix_is_open = False
        self._emit(b".")

    def _start(self) -> None:
        self._at += 1
        if len(self._groups) > 1:
            self._prefix_is_open = self._prefix_is_open and not self._prefix
        self._out.append(rb"\A")
        self._atom = None

    def _end(self) -> None:
        self._at += 1
        self._prefix_is_open = False
        self._out.append(rb"\Z")
        self._atom = None

    def _alternative(self) -> None:
        self._at += 1
        group = self._groups[-1]
        if len(self._groups) <= 2:
            # Another alternative of the whole expression may begin with anything.
            self._prefix.clear()
        self._prefix_is_open = False
        self._close_flags(group)
        self._out.append(b"|")
        self._open_flags(group)
        self._atom = None

    def _open_group(self) -> None:
        if len(self._groups) > MAX_DEPTH:
            raise PatternError(f"groups nested deeper than {MAX_DEPTH}")
        if len(self._groups) > 1:
            self._prefix_is_open = False
        text, at = self._text, self._at
        if text.startswith("(*", at):
            raise PatternError(f"(*VERB) not recognized or malformed at offset {at}")
        if text.startswith("(?#", at):
            self._comment()
            return
        if not text.startswith("(?", at):
            self._push(b"(", 1)
            return
        for look in _LOOK:
            if text.startswith(look, at):
                self._needs_pcre()
                self._push(look.encode(), len(look))
                return
        named = _NAME.match(text, at)
        if named is not None:
            self._push(f"(?P<{named[1]}>".encode(), len(named[0]))
            return
        self._open_flagged()

    def _comment(self) -> None:
        self._needs_pcre()
        end = self._text.find(")", self._at)
        if end < 0:
            raise PatternError("missing closing parenthesis of a comment")
        self._at = end + 1

    def _open_flagged(self) -> None:
        found = _FLAGS.match(self._text, self._at)
        if found is None:
            self._unsupported("a group of an unknown kind")
        on, off, end = found[1], found[2] or "", found[3]
        # R is about line ends, which only matter together with m.
        if set(on + off) - set("isUuR"):
            self._unsupported(f"the flags {on!r}")
        ignores_case: bool | None = None
        if "i" in on + off:
            ignores_case = "i" not in off
        if end == ":":
            self._push(_flag(ignores_case), len(found[0]))
            return
        self._at = found.end()
        if ignores_case is not None:
            group = self._groups[-1]
            group.flags.append(ignores_case)
            self._out.append(_flag(ignores_case))
            self._atom = None

    def _push(self, opening: bytes, length: int) -> None:
        self._at += length
        self._groups.append(_Group(start=len(self._out)))
        self._out.append(opening)
        self._atom = None

    def _close_group(self) -> None:
        if len(self._groups) == 1:
            raise PatternError(f"unmatched closing parenthesis at offset {self._at}")
        self._at += 1
        group = self._groups.pop()
        self._close_flags(group)
        self._out.append(b")")
        self._out[group.start :] = [b"".join(self._out[group.start :])]
        self._atom = group.start
        self._prefix_is_open = False

    def _close_flags(self, group: _Group) -> None:
        self._out.extend(b")" for _ in group.flags)

    def _open_flags(self, group: _Group) -> None:
        self._out.extend(_flag(ignores_case) for ignores_case in group.flags)

    # --- escapes

    def _escape(self) -> None:
        if self._at + 1 >= len(self._text):
            raise PatternError("backslash at the end of the expression")
        char = self._text[self._at + 1]
        if char in CLASS_ESCAPES:
            self._emit_class(CLASS_ESCAPES[char])
        elif char in PCRE_CLASS_ESCAPES:
            self._needs_pcre()
            self._emit_class(PCRE_CLASS_ESCAPES[char])
        elif char in _ASSERTIONS:
            self._assertion(char)
        elif char == "Q":
            self._quoted()
        elif char.isdigit() and char.isascii():
            self._number()
        else:
            self._literal_escape()

    def _emit_class(self, members: frozenset[int]) -> None:
        self._at += 2
        self._prefix_is_open = False
        self._emit(format_class(members))

    def _assertion(self, char: str) -> None:
        if char in "ZK":
            self._needs_pcre()
        self._at += 2
        self._prefix_is_open = False
        self._out.append(_ASSERTIONS[char])
        self._atom = None

    def _quoted(self) -> None:
        self._needs_pcre()
        end = self._text.find("\\E", self._at)
        quoted = self._text[self._at + 2 : end if end >= 0 else len(self._text)]
        self._prefix_is_open = False
        for char in quoted:
            self._literal(char)
        self._at = end + 2 if end >= 0 else len(self._text)

    def _number(self) -> None:
        """A back-reference, or an octal number; Rust has neither."""
        self._needs_pcre()
        self._prefix_is_open = False
        digits = re.compile(r"[0-9]{1,3}").match(self._text, self._at + 1)
        assert digits is not None
        text = digits[0]
        if text[0] == "0" or (len(text) == 3 and re.fullmatch("[0-3][0-7]{2}", text)):
            self._at += 1 + len(text)
            self._emit(re.escape(bytes([int(text, 8) & 0xFF])))
        elif len(text) == 1:
            self._at += 2
            # The group round the whole has not ended yet, so that a reference to it never matches.
            self._emit(b"(?!)" if text == "1" else f"(?:\\{text})".encode())
        else:
            self._unsupported("a reference with several digits")

    def _literal_escape(self) -> None:
        code, self._at = read_escape(self._text, self._at, is_pcre=self._is_pcre)
        if isinstance(code, str):
            self._literal(code)
        else:
            self._emit(re.escape(bytes([code])))
            self._extend_prefix(bytes([code]))

    # --- classes

    def _class(self) -> None:
        self._prefix_is_open = False
        members, self._at = ClassReader(self._text, is_pcre=self._is_pcre).read(self._at)
        self._emit(format_class(members))

    _HANDLERS: ClassVar[dict[str, Callable[[_Translator], None]]] = {
        "*": _quantifier,
        "+": _quantifier,
        "?": _quantifier,
        "{": _quantifier,
        ".": _dot,
        "^": _start,
        "$": _end,
        "|": _alternative,
        "(": _open_group,
        ")": _close_group,
        "[": _class,
        "\\": _escape,
    }


class _Group:
    """A group that is open."""

    __slots__ = ("flags", "start")

    def __init__(self, *, start: int) -> None:
        self.start = start
        self.flags: list[bool] = []
        """One for each ``(?i)`` and ``(?-i)`` in it: a group of our own that has to be closed with it."""


def _flag(ignores_case: bool | None) -> bytes:  # noqa: FBT001 - three states
    return b"(?:" if ignores_case is None else b"(?i:" if ignores_case else b"(?-i:"


_ASSERTIONS: Final = {
    "A": rb"\A",
    "B": rb"\B",
    "K": b"",  # moves the start of the match, which nobody asks for
    "Z": rb"(?=\n?\Z)",
    "b": rb"\b",
    "z": rb"\Z",
    "<": rb"\b(?=\w)",
    ">": rb"\b(?<=\w)",
}
