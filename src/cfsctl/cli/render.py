"""Format results as text: tables."""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING

from cfsctl.cli.cells import cell_width
from cfsctl.text import escape_controls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a table in the box style of the original; see `iter_table`."""
    known = list(rows)
    return "\n".join(iter_table(header, lambda: known))


def iter_table(header: Sequence[str], rows: Callable[[], Iterable[Sequence[str]]]) -> Iterator[str]:
    """Yield the lines of a table in the box style of the original.

    Cells are padded by one blank on each side and never cut; a newline in a cell continues it on
    the next line. A very long cell sticks out of its column, for the others would be padded to its width. The
    frame is of ASCII where standard output has nothing better.

    Args:
        header: One title per column.
        rows: Returns the rows: cells as text, as many as there are titles. It is called twice, so that a long
            table need not be in memory.
    """
    plain = None if _has_frames(sys.stdout.encoding) else _PLAIN_FRAME
    widths = [0] * len(header)
    for row in itertools.chain((header,), rows()):
        _widen(widths, row)
    for line in _iter_lines(header, rows(), widths):
        yield line if plain is None else line.translate(plain)


def _split(row: Sequence[str]) -> list[list[str]]:
    return [escape_controls(cell).split("\n") for cell in row]


def _widen(widths: list[int], row: Sequence[str]) -> None:
    for column, lines in enumerate(_split(row)):
        widest = max(map(cell_width, lines))
        if widest > widths[column]:
            widths[column] = min(_MAX_WIDTH, widest)


def _iter_lines(header: Sequence[str], rows: Iterable[Sequence[str]], widths: Sequence[int]) -> Iterator[str]:
    rules = {name: _rule(widths, marks) for name, marks in _RULES.items()}
    yield rules["top"]
    yield from _row_lines(_split(header), widths)
    yield rules["header"]
    for index, row in enumerate(rows):
        if index:
            yield rules["between"]
        yield from _row_lines(_split(row), widths)
    yield rules["bottom"]


def _has_frames(encoding: str | None) -> bool:
    try:
        "".join("".join(marks) for marks in _RULES.values()).encode(encoding or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


_MAX_WIDTH = 300
"""Columns that cells are padded to at most."""

_PLAIN_FRAME = str.maketrans("┌─┬┐╞═╪╡├╌┼┤└┴┘│┆", "+-+++=+++-+++++||")


_RULES = {
    "top": ("┌", "─", "┬", "┐"),
    "header": ("╞", "═", "╪", "╡"),
    "between": ("├", "╌", "┼", "┤"),
    "bottom": ("└", "─", "┴", "┘"),
}
"""Left end, line, crossing and right end of each kind of rule."""


def _rule(widths: Sequence[int], marks: tuple[str, str, str, str]) -> str:
    left, line, cross, right = marks
    return left + cross.join(line * (width + 2) for width in widths) + right


def _row_lines(cells: Sequence[Sequence[str]], widths: Sequence[int]) -> list[str]:
    height = max(len(cell) for cell in cells)
    lines = []
    for index in range(height):
        parts = [cell[index] if index < len(cell) else "" for cell in cells]
        padded = [
            f" {part}{' ' * (width - cell_width(part))} " for part, width in zip(parts, widths, strict=True)
        ]
        lines.append("│" + "┆".join(padded) + "│")
    return lines
