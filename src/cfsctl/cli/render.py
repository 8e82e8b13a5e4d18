"""Results as text: box tables and JSON documents."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cfsctl.cli.outcome import escape_controls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


def write_lines(lines: Iterable[bytes]) -> None:
    """Write chunks of raw bytes to standard output as they come."""
    sys.stdout.flush()
    sys.stdout.buffer.writelines(lines)


def format_json(document: Mapping[str, object]) -> str:
    """Return a document as the original prints it: two spaces of indent, keys in their given order."""
    import json  # noqa: PLC0415 - most results are text

    return json.dumps(document, indent=2, ensure_ascii=False)


def format_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in the box style of the original.

    Cells are padded by one blank on each side and never cut; a newline in a cell continues it on
    the next line.

    Args:
        header: One title per column.
        rows: Cells as text, as many per row as there are titles.
    """
    split = [[escape_controls(cell).split("\n") for cell in row] for row in (header, *rows)]
    widths = [max(_width(line) for row in split for line in row[column]) for column in range(len(header))]
    rules = {name: _rule(widths, marks) for name, marks in _RULES.items()}
    lines = [rules["top"], *_row_lines(split[0], widths), rules["header"]]
    for index, row in enumerate(split[1:]):
        if index:
            lines.append(rules["between"])
        lines.extend(_row_lines(row, widths))
    return "\n".join([*lines, rules["bottom"]])


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
            f" {part}{' ' * (width - _width(part))} " for part, width in zip(parts, widths, strict=True)
        ]
        lines.append("│" + "┆".join(padded) + "│")
    return lines


def _width(text: str) -> int:
    """Return how many terminal columns the text takes."""
    if text.isascii():
        return len(text)
    import unicodedata  # noqa: PLC0415 - most tables have nothing that it knows better

    wide = sum(unicodedata.east_asian_width(c) in "WF" for c in text)
    marks = sum(unicodedata.combining(c) != 0 for c in text)
    return len(text) + wide - marks
