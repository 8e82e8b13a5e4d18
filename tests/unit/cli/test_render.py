from __future__ import annotations

from cfsctl.cli.output import format_json
from cfsctl.cli.render import format_table


def test_table_is_drawn_like_the_original() -> None:
    table = format_table(["NAME", "DIGEST"], [["my-image", "0123456789ab"], ["other", "ba9876543210"]])
    assert table.split("\n") == [
        "┌──────────┬──────────────┐",
        "│ NAME     ┆ DIGEST       │",
        "╞══════════╪══════════════╡",
        "│ my-image ┆ 0123456789ab │",
        "├╌╌╌╌╌╌╌╌╌╌┼╌╌╌╌╌╌╌╌╌╌╌╌╌╌┤",
        "│ other    ┆ ba9876543210 │",
        "└──────────┴──────────────┘",
    ]


def test_newline_continues_the_cell_and_wide_characters_count_twice() -> None:
    table = format_table(["N"], [["a\nbcd"], ["漢字"]])
    assert table.split("\n")[3:6] == ["│ a    │", "│ bcd  │", "├╌╌╌╌╌╌┤"]
    assert "│ 漢字 │" in table


def test_a_name_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in format_table(["N"], [["\x1b[31mred"]])


def test_json_has_two_spaces_and_keeps_order_and_letters() -> None:
    assert format_json({"b": [], "a": "ä"}) == '{\n  "b": [],\n  "a": "ä"\n}'
