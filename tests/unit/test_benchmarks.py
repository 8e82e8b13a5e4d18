"""Declarations of benchmarks, verdicts and tables; nothing here depends on time."""

from __future__ import annotations

import string
from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

import pytest

from benchmarks.command_line import find_lanes
from benchmarks.declaration import OURS, PROGRAMS, REFERENCE, Aim, Group, Row, Setup, nothing
from benchmarks.groups import GROUPS
from benchmarks.large_repository import make_large_repository
from benchmarks.measuring import Run
from benchmarks.page import PAGE, NoMarkersError, format_page, replace_marked
from benchmarks.running import Options, Outcome, find_programs, run_groups
from benchmarks.scale import Figure, count_objects
from benchmarks.scale_plot import draw
from benchmarks.scale_plot import format_table as format_table_of_scale
from benchmarks.verdict import MET, MISSED, NOT_MEASURED, Document, format_table, judge_all
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.gc.stats import measure_refs

if TYPE_CHECKING:
    from pathlib import Path

ROWS = [row for group in GROUPS for row in group.rows]


def test_groups_and_rows_have_names_of_their_own() -> None:
    names = [group.name for group in GROUPS]
    assert len(names) == len(set(names))
    assert len(ROWS) == len({row.name for row in ROWS})


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_a_row_is_complete(row: Row) -> None:
    assert OURS in row.commands
    assert set(row.commands) <= set(PROGRAMS)
    assert row.limit.endswith(".")
    assert "|" not in row.name + row.limit, "would end a cell of the table"
    for aim in row.aims:
        assert aim.against in {"", *row.commands, *(other.name for other in ROWS)}
        assert aim.at_most > 0


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_each_program_runs_itself(group: Group) -> None:
    """The command of a program names no path of another one."""
    for step in group.steps:
        for program, command in step.commands.items():
            fields = {field for _, field, _, _ in string.Formatter().parse(command) if field}
            assert not fields & (set(PROGRAMS) - {program}), command


def outcome(*aims: Aim, ours: float | None = 2.0, theirs: float | None = 4.0) -> Outcome:
    row = Row("work", {OURS: "", REFERENCE: ""}, aims, "The disk.")
    found = {OURS: ours, REFERENCE: theirs}
    runs = {name: [Run(value, value / 2, 10)] for name, value in found.items() if value is not None}
    return Outcome(Group("group", nothing, (row,)), {"work": runs}, {})


@pytest.mark.parametrize(
    ("aim", "value", "verdict"),
    [
        (Aim(0.5, REFERENCE), 0.5, MET),
        (Aim(0.49, REFERENCE), 0.5, MISSED),
        (Aim(2.0), 2.0, MET),
        (Aim(1.9), 2.0, MISSED),
        (Aim(1.0, field="cpu_s"), 1.0, MET),
        (Aim(9, field="peak_mb"), 10, MISSED),
        (Aim(0.4, REFERENCE, without_lanes=0.6), 0.5, MISSED),
        (Aim(1.0, "other"), None, NOT_MEASURED),
    ],
)
def test_verdicts(aim: Aim, value: float | None, verdict: str) -> None:
    (judged,) = judge_all([outcome(aim)], has_lanes=True)[0]["aims"]
    assert (judged["value"], judged["verdict"]) == (value, verdict)


def test_an_aim_is_another_one_without_lanes() -> None:
    (judged,) = judge_all([outcome(Aim(0.4, REFERENCE, without_lanes=0.6))], has_lanes=False)[0]["aims"]
    assert (judged["at_most"], judged["verdict"]) == (0.6, MET)


def test_what_has_no_runs_is_not_measured() -> None:
    for one in (outcome(Aim(1, REFERENCE), ours=None), outcome(Aim(1, REFERENCE), theirs=None)):
        (judged,) = judge_all([one], has_lanes=True)[0]["aims"]
        assert judged["verdict"] == NOT_MEASURED


def test_a_row_is_compared_with_another_row() -> None:
    first = Row("first", {OURS: ""}, (), "The disk.")
    second = Row("second", {OURS: ""}, (Aim(1.0, "first"),), "The disk.")
    results = {
        "first": {OURS: [Run(2, 1, 1)]},
        "second": {OURS: [Run(1, 1, 1), Run(3, 1, 1), Run(1.5, 1, 1)]},
    }
    rows = judge_all([Outcome(Group("group", nothing, (first, second)), results, {})], has_lanes=True)
    assert rows[1]["aims"][0]["value"] == 0.75


def document(*outcomes: Outcome) -> Document:
    return Document(
        date="2026-01-01",
        machine={"processor": "fast"},
        versions={OURS: "cfsctl 1"},
        scale=1,
        rounds=1,
        seconds=3,
        rows=judge_all(outcomes, has_lanes=True),
    )


def test_the_table_has_a_line_for_each_program_and_aim() -> None:
    text = format_table(document(outcome(Aim(0.4, REFERENCE), Aim(20, field="peak_mb"))))
    head, ours, theirs, summary = text.splitlines()
    assert head.split()[:2] == ["work", "program"]
    assert ours.split() == ["work", "ours", "2.00", "2.00", "to", "2.00", "1.00", "10", "20", "MB", "met"]
    assert theirs.split()[-3:] == ["0.50", "0.4", "missed"]
    assert summary == "2 aims: 1 met, 1 missed, 0 not measured; took 3 s"


def test_a_problem_is_said_once() -> None:
    failed = outcome(Aim(0.4, REFERENCE), theirs=None)._replace(problems={REFERENCE: "not there"})
    assert format_table(document(failed)).splitlines()[-1] == "group: reference: not there"


def test_the_page_gets_the_table_and_keeps_the_rest() -> None:
    old = PAGE.read_text()
    new = replace_marked(old, format_page(document(outcome(Aim(0.4, REFERENCE)))))
    before, after = old.partition("<!-- begin")[0], old.partition("<!-- end")[2]
    assert new.startswith(before)
    assert new.endswith(after)
    assert "| work | 2.00 (10) | reference 4.00 (10) | 0.50 | 0.4 of reference | missed | The disk. |" in new
    assert "| 2.00 (10) |" not in replace_marked(new, "text")


def test_a_page_without_markers_is_refused() -> None:
    with pytest.raises(NoMarkersError):
        replace_marked("# Performance\n", "text")


def make_options(work: Path) -> Options:
    return Options(work, 2, 0, 0.01, None, 0.0, find_programs("/bin/true") | {"reference": "/bin/true"})


def test_programs_take_turns_in_stores_of_their_own(tmp_path: Path) -> None:
    trace = tmp_path / "trace"
    commands = {name: f"sh -c 'echo {name} {{number}} {{store}} >>{trace}'" for name in (OURS, REFERENCE)}
    group = Group("group", nothing, (Setup(commands), Row("work", commands, (), "The disk.", 2)))
    (found,) = run_groups([group], make_options(tmp_path))
    assert not found.problems
    assert {name: len(runs) for name, runs in found.results["work"].items()} == {OURS: 4, REFERENCE: 4}
    lines = [line.split() for line in trace.read_text().splitlines()]
    assert [line[0] for line in lines[::3]] == [OURS, REFERENCE, REFERENCE, OURS]
    assert len({line[2] for line in lines}) == len({line[1] for line in lines}) == 4


def test_a_program_that_fails_stops_nobody_else(tmp_path: Path) -> None:
    row = Row("work", {OURS: "true", REFERENCE: "false", "c": "true"}, (Aim(1, REFERENCE),), "The disk.")
    options = make_options(tmp_path)
    options = options._replace(
        programs={name: path for name, path in options.programs.items() if name != "c"}
    )
    (found,) = run_groups([Group("group", nothing, (row,))], options)
    assert set(found.problems) == {REFERENCE, "c"}
    assert len(found.results["work"][OURS]) == 2
    assert list(tmp_path.iterdir()) == []


def test_our_program_says_how_it_hashes() -> None:
    assert find_lanes(find_programs(None)[OURS])


def test_figures_of_scale_are_drawn_and_tabled() -> None:
    figures = [
        Figure(job=job, objects=objects, wall_s=1, cpu_s=objects / 1e5, peak_mb=10 + objects / 1e5)
        for job in ("gc", "a < b")
        for objects in (100_000, 1_000_000)
    ]
    head, _, *rows = format_table_of_scale(figures).splitlines()
    assert head == "| command | 100,000 objects | 1,000,000 objects |"
    assert sorted(rows) == [
        "| a < b | 1.00 s, 11 MB | 10.00 s, 20 MB |",
        "| gc | 1.00 s, 11 MB | 10.00 s, 20 MB |",
    ]
    drawing = ET.fromstring(draw(figures))
    assert len(drawing.findall("{*}polyline")) == 4
    assert len(drawing.findall("{*}circle")) == 8


def test_a_large_repository_is_one_that_fsck_accepts(tmp_path: Path) -> None:
    path = tmp_path / "large"
    make_large_repository(path, 900, 8, workers=2)
    with Repository.open(str(path)) as repository:
        assert check_repository(repository, metadata_only=True, workers=0).is_ok
        result = collect_garbage(repository, dry_run=True)
        assert (result.objects_removed, result.objects_kept, result.problems) == (0, 908, ())
        refs = measure_refs(repository)
    assert len(refs) == 8
    assert {ref.objects for ref in refs} == {113, 225, 229}
    assert not any(ref.missing for ref in refs)
    assert count_objects(path) == 900
