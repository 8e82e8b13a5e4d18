"""From runs to verdicts: the document that `python -m benchmarks --json` writes, and its table."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from benchmarks.declaration import OURS, PROGRAMS, UNITS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from benchmarks.declaration import Aim, Field, Row
    from benchmarks.measuring import Run
    from benchmarks.running import Outcome

MET, MISSED, NOT_MEASURED = "met", "missed", "not measured"


class Medians(TypedDict):
    """What the runs of one program took, medians; memory is the highest."""

    wall_s: float
    cpu_s: float
    peak_mb: float
    wall_from_s: float
    wall_to_s: float
    runs: int


class Judged(TypedDict):
    """One aim of a row; `value` is the ratio, or what ours takes where it is against nothing."""

    against: str
    field: Field
    at_most: float
    value: float | None
    verdict: str


class JudgedRow(TypedDict):
    """One row."""

    group: str
    row: str
    programs: dict[str, Medians]
    aims: list[Judged]
    limit: str
    problems: dict[str, str]


class Document(TypedDict):
    """All that is known after a run."""

    date: str
    machine: dict[str, str]
    versions: dict[str, str]
    scale: float
    rounds: int
    seconds: float
    rows: list[JudgedRow]


def judge_all(outcomes: Sequence[Outcome], *, has_lanes: bool) -> list[JudgedRow]:
    """Return every row with its medians and verdicts."""
    medians = {
        row.name: {program: summarize(runs) for program, runs in outcome.results[row.name].items() if runs}
        for outcome in outcomes
        for row in outcome.group.rows
    }
    return [
        JudgedRow(
            group=outcome.group.name,
            row=row.name,
            programs=medians[row.name],
            aims=[judge(row, aim, medians, has_lanes=has_lanes) for aim in row.aims],
            limit=row.limit,
            problems={name: text for name, text in outcome.problems.items() if name in {OURS, *row.commands}},
        )
        for outcome in outcomes
        for row in outcome.group.rows
    ]


def summarize(runs: Sequence[Run]) -> Medians:
    """Return the medians of runs."""
    walls = [run.wall_s for run in runs]
    return Medians(
        wall_s=statistics.median(walls),
        cpu_s=statistics.median(run.cpu_s for run in runs),
        peak_mb=max(run.peak_mb for run in runs),
        wall_from_s=min(walls),
        wall_to_s=max(walls),
        runs=len(runs),
    )


def judge(row: Row, aim: Aim, medians: Mapping[str, Mapping[str, Medians]], *, has_lanes: bool) -> Judged:
    """Return what became of an aim; `medians` are those of all rows."""
    at_most = aim.at_most if has_lanes or aim.without_lanes is None else aim.without_lanes
    value = _value_of(row, aim, medians)
    verdict = NOT_MEASURED if value is None else MET if value <= at_most else MISSED
    return Judged(against=aim.against, field=aim.field, at_most=at_most, value=value, verdict=verdict)


def _value_of(row: Row, aim: Aim, medians: Mapping[str, Mapping[str, Medians]]) -> float | None:
    ours = medians[row.name].get(OURS)
    if ours is None:
        return None
    if not aim.against:
        return ours[aim.field]
    is_program = aim.against in PROGRAMS
    other = medians[row.name].get(aim.against) if is_program else medians.get(aim.against, {}).get(OURS)
    return None if other is None or not other[aim.field] else ours[aim.field] / other[aim.field]


class Line(NamedTuple):
    """One line of a table, as text."""

    row: str
    program: str
    wall: str
    spread: str
    cpu: str
    memory: str
    ratio: str
    aim: str
    verdict: str


HEAD = Line("work", "program", "wall s", "from, to", "cpu s", "MB", "ratio", "aim", "verdict")


def lines_of(row: JudgedRow) -> Iterable[Line]:
    """Yield a line for each program of a row, and one for each aim that is about no program."""
    left = list(row["aims"])
    ours = row["programs"].get(OURS)
    for program in [name for name in PROGRAMS if name in row["programs"]]:
        found = row["programs"][program]
        against = "" if program == OURS else program
        aims = [aim for aim in left if aim["against"] == against][:1]
        left = [aim for aim in left if aim not in aims]
        ratio = "" if ours is None or program == OURS else f"{_ratio(ours, found, aims):.2f}"
        yield Line(
            row["row"],
            program,
            _seconds(found["wall_s"]),
            " to ".join(_seconds(found[end]) for end in ("wall_from_s", "wall_to_s")),
            _seconds(found["cpu_s"]),
            f"{found['peak_mb']:.0f}",
            ratio,
            "".join(map(describe_aim, aims)),
            "".join(aim["verdict"] for aim in aims),
        )
    for aim in left:
        is_ratio = aim["against"] and aim["value"] is not None
        ratio = f"{aim['value']:.2f}" if is_ratio else ""
        yield Line(
            row["row"], aim["against"] or OURS, "", "", "", "", ratio, describe_aim(aim), aim["verdict"]
        )


def _seconds(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.2f}"


def _ratio(ours: Medians, theirs: Medians, aims: Sequence[Judged]) -> float:
    field: Field = aims[0]["field"] if aims else "wall_s"
    return ours[field] / theirs[field] if theirs[field] else float("inf")


def describe_aim(aim: Judged) -> str:
    """Return the bound with its unit."""
    unit = UNITS[aim["field"]]
    if not aim["against"]:
        return f"{aim['at_most']:g} {unit}"
    return f"{aim['at_most']:g}" + ("" if aim["field"] == "wall_s" else f" of {unit.removeprefix('s of ')}")


def format_table(document: Document) -> str:
    """Return the table as plain text."""
    lines = [HEAD, *(line for row in document["rows"] for line in lines_of(row))]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    text = ""
    for line in lines:
        cells = [
            cell.ljust(width) if index in {0, 1, 8} else cell.rjust(width)
            for index, (cell, width) in enumerate(zip(line, widths, strict=True))
        ]
        text += "  ".join(cells).rstrip() + "\n"
    return text + format_summary(document)


def format_summary(document: Document) -> str:
    """Return how many aims were met, and what could not be measured."""
    verdicts = [aim["verdict"] for row in document["rows"] for aim in row["aims"]]
    counts = ", ".join(f"{verdicts.count(verdict)} {verdict}" for verdict in (MET, MISSED, NOT_MEASURED))
    text = f"{len(verdicts)} aims: {counts}; took {document['seconds']:.0f} s\n"
    seen = {
        (row["group"], name, problem) for row in document["rows"] for name, problem in row["problems"].items()
    }
    return text + "".join(f"{group}: {name}: {problem}\n" for group, name, problem in sorted(seen))
