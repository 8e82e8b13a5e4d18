"""Lists as users see them: on terminals of two widths, and by the options that shape them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from tests.integration.cli.conftest import environment, run
from tests.support.ostree_client import require_ostree
from tests.support.programs import CFSCTL
from tests.support.terminals import count_cells, run_on_terminal

if TYPE_CHECKING:
    from pathlib import Path

LONG = "漢字/e\u0301te\u0301/" + "a-rather-long-component/" * 4 + "漢字"
LISTS = [
    ["images"],
    ["images", "--size"],
    ["oci", "images"],
    ["oci", "images", "--size", "--bytes"],
    ["ostree", "images"],
    ["ostree", "images", "--size", "--no-trunc"],
    ["ostree", "log", "test", "--columns", "commit,date,version,subject,parent"],
    ["ostree", "history", "test"],
    ["image", "history", "web"],
    ["stats"],
    ["prune", "-n", "--keep-last", "1", "*"],
]


@pytest.fixture
def names(place: Path) -> Path:
    require_ostree()
    assert run(place, "--repo", "repo", "tag", "web", LONG).returncode == 0
    assert run(place, "--repo", "repo", "oci", "tag", "app", LONG).returncode == 0
    assert run(place, "--repo", "repo", "ostree", "tag", "test", LONG).returncode == 0
    return place


def on_terminal(place: Path, columns: int, *words: str) -> list[str]:
    environ = {**environment(), "LC_ALL": "C.UTF-8", "TERM": "xterm", "TZ": "UTC"}
    environ.pop("COLUMNS", None)
    status, lines = run_on_terminal([str(CFSCTL), "--repo", "repo", *words], columns, place, environ)
    assert status == 0, lines
    return lines


@pytest.mark.parametrize("columns", [80, 120])
def test_no_line_is_wider_than_the_terminal_and_no_name_is_cut(columns: int, names: Path) -> None:
    for words in LISTS:
        lines = on_terminal(names, columns, *words)
        assert max(map(count_cells, lines)) <= columns, (words, lines)
        assert len(lines) > 1
        if words[1:2] != ["history"] and "log" not in words:
            # The name is in one column, on as many lines as it takes; nothing else is below it.
            text = "".join(re.split(r" {2,}", line)[0] for line in lines)
            if words[0] != "prune":
                assert LONG in text, (words, lines)


def test_wide_terminals_show_more(names: Path) -> None:
    narrow = on_terminal(names, 80, "oci", "images", "--size")[0].split()
    wide = on_terminal(names, 160, "oci", "images", "--size")[0].split()
    assert set(narrow) < set(wide)
    assert {"NAME", "DIGEST", "OWN"} <= set(narrow)
    assert wide == [
        "NAME",
        "DIGEST",
        "CREATED",
        "ARCH",
        "LAYERS",
        "REFS",
        "SIZE",
        "OWN",
        "SHARED",
        "KEPT",
    ] or ("KEPT" in wide)


def test_numbers_stand_at_the_right(names: Path) -> None:
    lines = on_terminal(names, 120, "images", "--size", "--columns", "size,name", "--sort", "size")
    ends = {len(line.split("  ")[0].rstrip()) for line in lines if not line.startswith(" " * 12)}
    title, *rows = (line[: line.index("  ", 5)] if "  " in line[5:] else line for line in lines)
    assert title.endswith("SIZE")
    assert all(row.endswith(("B", " ")) for row in rows)
    assert ends


def test_a_pipe_gets_what_the_original_prints(place: Path) -> None:
    assert run(place, "--repo", "repo", "images").stdout.startswith("┌")
    assert run(place, "--repo", "repo", "oci", "images").stdout.startswith("┌")
    assert run(place, "--repo", "repo", "images", "--format", "table").stdout.startswith("NAME  ")


def test_ids_alone_are_accepted_back(place: Path) -> None:
    for words in (["images"], ["oci", "images"]):
        ids = run(place, "--repo", "repo", *words, "-q").stdout.split()
        assert len(ids) == 1
        show = ["image-objects", *ids] if words == ["images"] else ["oci", "inspect", *ids]
        assert run(place, "--repo", "repo", *show).returncode == 0


def test_templates_give_what_the_document_says(place: Path) -> None:
    document = json.loads(run(place, "--repo", "repo", "images", "--json", "--size").stdout)
    template = r"{name}\t{id}\t{timestamp}\t{size}\t{own}\t{kept}"
    line = run(place, "--repo", "repo", "images", "--bytes", "--format", template).stdout
    image = document["images"][0]
    keys = ("name", "image", "timestamp", "size_bytes", "own_bytes", "kept")
    assert line == "\t".join(str(image[key]) for key in keys) + "\n"


WRONG = [
    (["--format", "{nme}"], "there is no column 'nme'; there are name, id,"),
    (["--format", "{name"], "found a single brace"),
    (["--columns", "name,nme"], "there is no column 'nme'"),
    (["--sort", "-nme"], "there is no column 'nme'"),
    (["-q", "--columns", "name"], "cannot be used together"),
]


@pytest.mark.parametrize(("words", "text"), WRONG)
def test_what_cannot_be_printed_is_said_first(words: list[str], text: str, place: Path) -> None:
    done = run(place, "--repo", "nowhere", "images", *words)
    assert done.returncode == 2
    assert text in done.stderr


def test_sorted_by_a_column_in_both_directions(place: Path) -> None:
    assert run(place, "--repo", "repo", "tag", "web", "another").returncode == 0
    names = ["--columns", "name"]
    forth = run(place, "--repo", "repo", "images", "--sort", "name", *names).stdout.split()
    back = run(place, "--repo", "repo", "images", "--sort", "-name", *names).stdout.split()
    assert forth == ["NAME", "another", "web"]
    assert back == ["NAME", "web", "another"]
    by_time = run(place, "--repo", "repo", "images", "--sort", "date", *names).stdout.split()
    assert by_time == ["NAME", "web", "another"]


def test_statistics_name_tags_and_not_paths(place: Path) -> None:
    require_ostree()
    text = run(place, "--repo", "repo", "stats", "--format", "{kind} {name}").stdout.split("\n")
    assert sorted(line for line in text if line) == [
        "commit test",
        "image web",
        "kept app",
        "kept test",
        "kept web",
        "oci app",
    ]
