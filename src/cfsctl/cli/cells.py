"""Cells of a terminal: how many a text takes, and cutting or wrapping it to some number of them."""

from __future__ import annotations

from typing import Final

_ELLIPSIS: Final = "\u2026"
_BREAKS: Final = ("/", ":@.-_ ")
"""Characters behind which a name is broken if that is possible, the better ones first."""


def cell_width(text: str) -> int:
    """Return how many cells of a terminal a text takes, which has been made printable."""
    if text.isascii():
        return len(text)
    import wcwidth  # takes longer to import than most tables take to print

    width: int = wcwidth.wcswidth(text)
    return width if width >= 0 else len(text)


def clusters(text: str) -> list[str]:
    """Return the characters of a text as they are seen, combining marks with what they stand on."""
    found: list[str] = []
    for character in text:
        if found and cell_width(found[-1] + character) == cell_width(found[-1]):
            found[-1] += character
        else:
            found.append(character)
    return found


def cut(text: str, width: int, *, is_ascii: bool = False) -> str:
    """Return a text that takes at most some cells, with an ellipsis where its end is left out."""
    if cell_width(text) <= width:
        return text
    mark = "." if is_ascii else _ELLIPSIS
    kept = ""
    for cluster in clusters(text):
        if cell_width(kept + cluster) + 1 > width:
            break
        kept += cluster
    return kept + mark


def wrap(text: str, width: int) -> list[str]:
    """Return a text as lines of at most some cells; nothing is left out.

    A line ends behind a slash, else behind a mark, if one is in its second half; else where it is full.
    """
    lines = [""]
    for cluster in clusters(text):
        if lines[-1] and cell_width(lines[-1] + cluster) > width:
            line = lines.pop()
            at = _find_break(line)
            lines += [line[:at], line[at:]]
        lines[-1] += cluster
    return lines


def _find_break(line: str) -> int:
    """Return where a full line ends, in characters."""
    for marks in _BREAKS:
        at = max(line.rfind(mark) for mark in marks) + 1
        if at > len(line) // 2:
            return at
    return len(line)


def pad(text: str, width: int, *, to_right: bool = False) -> str:
    """Return a text that takes some cells, filled up with blanks behind it or before it."""
    blanks = " " * max(0, width - cell_width(text))
    return blanks + text if to_right else text + blanks
