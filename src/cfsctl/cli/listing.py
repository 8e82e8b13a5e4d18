"""Lists: rows of named values, as a table that fits the terminal, or as lines of the user's own making.

A command says which columns it has and makes a row of raw values for each thing. What a user sees of them
is the same for every list: sorted by any column, sizes in human units or as bytes, dates in local time, IDs
short or whole; and `--format` and `--columns` choose what is printed.

Where standard output is not a terminal and no option asks for anything else, a command prints what it always
has, since scripts read that.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cfsctl.cli.cells import cell_width, cut, pad, wrap
from cfsctl.cli.columns import SHORT_DIGITS, TEMPLATE, Kind
from cfsctl.cli.output import is_terminal, output_encoding, print_formatted, print_lines
from cfsctl.text import format_size, printable

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Sequence

    from cfsctl.cli.columns import Column, ListRequest, Row, Value

_GAP: Final = "  "
_MIN_NAME: Final = 20
"""Cells that a name keeps before columns are left out for it."""

_MIN_ID: Final = 32
"""The same of an ID, which is longer only if all of its digits are asked for."""

_MIN_TEXT: Final = 12
"""The same of a text that is cut."""

_ESCAPES: Final = {"\\n": "\n", "\\t": "\t", "\\\\": "\\", "{{": "{", "}}": "}"}


def sort_rows(request: ListRequest, rows: Iterable[Row]) -> list[Row]:
    """Return rows in the order that was asked for; rows without the value come last."""
    if request.sort is None:
        return list(rows)
    key = request.sort.removeprefix("-")
    found = list(rows)
    having = [row for row in found if row.get(key) is not None]
    having.sort(key=lambda row: row[key], reverse=request.sort.startswith("-"))  # type: ignore[arg-type,return-value]  # values of one column are alike
    return having + [row for row in found if row.get(key) is None]


def show_list(
    request: ListRequest, columns: Sequence[Column], rows: Iterable[Row], *, quiet_key: str, nothing: str
) -> None:
    """Print a list as it was asked for.

    Args:
        request: How.
        columns: The columns that there are.
        rows: Raw values by the keys of columns: numbers of bytes, seconds since 1970.
        quiet_key: The column that `-q` prints.
        nothing: What a table says if there are no rows.
    """
    ordered = sort_rows(request, rows)
    if request.only_ids:
        print_lines(str(row[quiet_key]) for row in ordered if row.get(quiet_key))
    elif request.template is not None:
        for row in ordered:
            print_formatted(_fill(request, columns, row))
    elif not ordered:
        print_lines([nothing])
    else:
        width = _terminal_width() if is_terminal() else None
        print_lines(format_rows(request, columns, ordered, width))


def _fill(request: ListRequest, columns: Sequence[Column], row: Row) -> str:
    kinds = {column.key: column.kind for column in columns}

    def replace(match: re.Match[str]) -> str:
        if match[1] is None:
            return _ESCAPES.get(match[0], match[0])
        text = printable(_show(request, kinds[match[1]], row.get(match[1]), is_alone=True))
        return text if match[3] is None else pad(text, int(match[3]), to_right=match[2] == ">")

    assert request.template is not None
    return TEMPLATE.sub(replace, request.template)


def format_rows(
    request: ListRequest, columns: Sequence[Column], rows: Sequence[Row], width: int | None
) -> list[str]:
    """Return a table, a heading and a line or more for each row.

    Args:
        request: What is shown of the rows.
        columns: The columns that there are.
        rows: Raw values.
        width: Cells of a line, or None for as many as are needed.
    """
    chosen = _choose_columns(request, columns, rows)
    cells = [
        [printable(_show(request, column.kind, row.get(column.key))) for column in chosen] for row in rows
    ]
    natural = [
        max(cell_width(column.title), *(cell_width(line[index]) for line in cells))
        for index, column in enumerate(chosen)
    ]
    kept = list(range(len(chosen))) if width is None else _fit(chosen, natural, width)
    widths = [natural[index] for index in range(len(chosen))]
    if width is not None:
        _shrink(chosen, widths, kept, width)
    titles = [chosen[index].title for index in range(len(chosen))]
    lines = _lines_of(titles, chosen, widths, kept)
    for row in cells:
        lines += _lines_of(row, chosen, widths, kept)
    return lines


def _choose_columns(request: ListRequest, columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    if request.columns is not None:
        by_key = {column.key: column for column in columns}
        return [by_key[key] for key in request.columns]
    return [
        column
        for column in columns
        if column.is_shown
        and (request.with_sizes or not column.needs_sizes)
        and (column.rank == 0 or any(row.get(column.key) not in {None, ""} for row in rows))
    ]


def _total(widths: Sequence[int], kept: Sequence[int]) -> int:
    return sum(widths[index] for index in kept) + len(_GAP) * (len(kept) - 1)


def _least(column: Column, width: int) -> int:
    """Return the cells that a column needs at least."""
    if column.kind is Kind.NAME:
        return min(width, _MIN_NAME)
    if column.kind is Kind.ID:
        return min(width, _MIN_ID)
    return min(width, max(_MIN_TEXT, len(column.title))) if column.kind is Kind.TEXT else width


def _fit(columns: Sequence[Column], natural: Sequence[int], width: int) -> list[int]:
    """Return the columns that there is room for, if names and texts are as narrow as they can be."""
    least = [_least(column, natural[index]) for index, column in enumerate(columns)]
    kept = list(range(len(columns)))
    while _total(least, kept) > width:
        last = max(kept, key=lambda index: (columns[index].rank, index))
        if columns[last].rank == 0:
            break
        kept.remove(last)
    return kept


def _shrink(columns: Sequence[Column], widths: list[int], kept: Sequence[int], width: int) -> None:
    """Make texts, and then names, narrower until the table fits."""
    for kind in (Kind.TEXT, Kind.NAME, Kind.ID):
        for index in reversed(kept):
            over = _total(widths, kept) - width
            if over > 0 and columns[index].kind is kind:
                widths[index] = max(_least(columns[index], widths[index]), widths[index] - over)


def _lines_of(
    row: Sequence[str], columns: Sequence[Column], widths: Sequence[int], kept: Sequence[int]
) -> list[str]:
    """Return the line of a row, and further ones for a name that does not fit: names are never cut."""
    is_ascii = not _is_wide_encoding()
    cells: list[list[str]] = []
    for index in kept:
        is_name = columns[index].kind in {Kind.NAME, Kind.ID}
        cells.append(
            wrap(row[index], widths[index])
            if is_name
            else [cut(row[index], widths[index], is_ascii=is_ascii)]
        )
    lines = []
    for number in range(max(len(cell) for cell in cells)):
        parts = [
            pad(
                cell[number] if number < len(cell) else "",
                widths[index],
                to_right=columns[index].kind.is_numeric,
            )
            for index, cell in zip(kept, cells, strict=True)
        ]
        lines.append(_GAP.join(parts).rstrip())
    return lines


def _is_wide_encoding() -> bool:
    return output_encoding().lower().replace("-", "") == "utf8"


def _terminal_width() -> int:
    """Return the cells of a line: as COLUMNS says, else as the terminal does."""
    import shutil  # only where standard output is a terminal

    return max(20, shutil.get_terminal_size((80, 24)).columns)


def _show(request: ListRequest, kind: Kind, value: Value, *, is_alone: bool = False) -> str:
    """Return a value as text."""
    if value is None:
        return "" if is_alone else "-"
    if kind is Kind.SIZE and isinstance(value, int):
        return str(value) if request.exact else format_size(value)
    if kind is Kind.DATE and isinstance(value, int | float):
        return format_date(value)
    if kind is Kind.ID and not (request.whole_ids or is_alone):
        return shorten_id(str(value))
    return str(value)


def shorten_id(text: str) -> str:
    """Return the beginning of an ID, without what stands before its digits."""
    return text.rpartition(":")[2][:SHORT_DIGITS]


def format_date(seconds: float) -> str:
    """Return a time as date and minute in local time, or the number where the calendar has no such day."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))
