"""Lists: what fits, what is left out, and what users make of them."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.cli.cells import cell_width, cut, pad, wrap
from cfsctl.cli.columns import Column, Kind, ListRequest
from cfsctl.cli.listing import format_rows, show_list, sort_rows
from cfsctl.text import format_size

COLUMNS = (
    Column("name", "NAME", Kind.NAME),
    Column("id", "ID", Kind.ID),
    Column("date", "DATE", Kind.DATE, rank=2),
    Column("size", "SIZE", Kind.SIZE, rank=1),
    Column("subject", "SUBJECT", rank=3),
)
ROWS: list[dict[str, str | int | float | bool | None]] = [
    {"name": "web", "id": "sha512:" + "ab" * 64, "date": 0, "size": 5, "subject": "the first one of all"},
    {"name": "漢字/e\u0301", "id": "sha512:" + "cd" * 64, "date": 1e9, "size": 123456789, "subject": None},
]


def cells(text: str) -> int:
    """Count the cells of a line without the library that the program asks."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    import time  # as the tests of retention

    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def test_everything_fits_into_a_wide_terminal() -> None:
    assert format_rows(ListRequest(), COLUMNS, ROWS, 120) == [
        "NAME    ID            DATE                 SIZE  SUBJECT",
        "web     abababababab  1970-01-01 00:00      5 B  the first one of all",
        "漢字/e\u0301  cdcdcdcdcdcd  2001-09-09 01:46  118 MiB  -",
    ]


@pytest.mark.parametrize(
    ("width", "titles"),
    [
        (80, ["NAME", "ID", "DATE", "SIZE", "SUBJECT"]),
        (62, ["NAME", "ID", "DATE", "SIZE", "SUBJECT"]),
        (50, ["NAME", "ID", "DATE", "SIZE"]),
        (33, ["NAME", "ID", "SIZE"]),
        (22, ["NAME", "ID"]),
    ],
)
def test_columns_are_left_out_by_their_rank(width: int, titles: list[str]) -> None:
    lines = format_rows(ListRequest(), COLUMNS, ROWS, width)
    assert lines[0].split() == titles
    assert max(map(cells, lines)) <= width


@given(
    st.lists(
        st.text(st.characters(categories=["Lu", "Ll", "Lo", "Nd", "Mn", "Po"]), min_size=1, max_size=90),
        min_size=1,
        max_size=4,
    ),
    st.integers(40, 130),
)
def test_lines_are_never_wider_than_the_terminal_and_names_are_whole(names: list[str], width: int) -> None:
    rows = [{**ROWS[0], "name": name} for name in names]
    columns = COLUMNS[:2]
    lines = format_rows(ListRequest(), columns, rows, width)
    assert max(map(cell_width, lines)) <= width
    shown = "".join("".join(lines).replace("abababababab", "").split())
    assert shown.removeprefix("NAMEID") == "".join("".join(names).split())


def test_a_long_name_is_broken_at_slashes() -> None:
    assert wrap("fedora/stable/x86_64/silverblue", 20) == ["fedora/stable/", "x86_64/silverblue"]
    assert wrap("x" * 25, 10) == ["x" * 10, "x" * 10, "x" * 5]
    assert wrap("漢字漢字", 5) == ["漢字", "漢字"]


def test_texts_are_cut_between_characters() -> None:
    assert cut("subject", 7) == "subject"
    assert cut("subject", 5) == "subj…"
    assert cut("漢字漢字", 6) == "漢字…"
    assert cut("ae\u0301iou", 3) == "ae\u0301…"
    assert cut("subject", 5, is_ascii=True) == "subj."
    assert pad("漢", 4) == "漢  "
    assert pad("7", 3, to_right=True) == "  7"


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.00 KiB"),
        (10240, "10.0 KiB"),
        (102400, "100 KiB"),
        (1048575, "1.00 MiB"),
        (1 << 30, "1.00 GiB"),
        (1 << 62, "4.00 EiB"),
        (1 << 90, "1073741824 EiB"),
    ],
)
def test_sizes_have_three_digits(size: int, text: str) -> None:
    assert format_size(size) == text


def test_rows_without_a_value_come_last_in_both_directions() -> None:
    rows: list[dict[str, str | int | float | bool | None]]
    rows = [{"name": "a", "size": None}, {"name": "b", "size": 1}, {"name": "c", "size": 2}]
    assert [row["name"] for row in sort_rows(ListRequest(sort="size"), rows)] == ["b", "c", "a"]
    assert [row["name"] for row in sort_rows(ListRequest(sort="-size"), rows)] == ["c", "b", "a"]


def test_templates(capsys: pytest.CaptureFixture[str]) -> None:
    request = ListRequest(template=r"{name:>5}|{id}|{size}|{subject}\t{{x}}\nend")
    show_list(request, COLUMNS, ROWS[:1], quiet_key="id", nothing="")
    first, second = capsys.readouterr().out.splitlines()
    assert first == f"  web|sha512:{'ab' * 64}|5 B|the first one of all\t{{x}}"
    assert second == "end"


def test_a_name_cannot_make_lines_or_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{**ROWS[0], "name": "a\nb\x1b[31m"}]
    show_list(ListRequest(template="{name}"), COLUMNS, rows, quiet_key="id", nothing="")
    show_list(ListRequest(), COLUMNS, rows, quiet_key="id", nothing="")
    out = capsys.readouterr().out
    assert out.startswith("a\\nb\\x1b[31m\n")
    assert "\x1b" not in out


def test_one_id_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    show_list(ListRequest(only_ids=True), COLUMNS, [*ROWS, {"name": "lost"}], quiet_key="id", nothing="")
    assert capsys.readouterr().out.splitlines() == [row["id"] for row in ROWS]
