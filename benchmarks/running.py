"""Runs groups of benchmarks: prepares them, lets the programs take turns, and keeps what each run took."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from benchmarks.declaration import OURS, PROGRAMS, Place, Row
from benchmarks.measuring import measure

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from benchmarks.declaration import Group, Results, Setup

_C_TOOLS = Path(__file__).parents[1] / ".c-composefs" / "bin"
"""Where `tools/c-composefs.sh .c-composefs` puts them."""


class Options(NamedTuple):
    """How to run.

    Attributes:
        work: Directory on the file system to measure, or None for the one of temporary files.
        rounds: How often each program goes through the steps.
        niceness: Of what is measured.
        scale: 1 for the sizes that aims are about.
        tree: A directory to make images of, or None to make one.
        delay_ms: Round-trip time to servers of this machine.
        programs: Paths by name, of those that are there.
    """

    work: Path | None
    rounds: int
    niceness: int
    scale: float
    tree: Path | None
    delay_ms: float
    programs: Mapping[str, str]


class Outcome(NamedTuple):
    """What a group gave.

    Attributes:
        group: The group.
        results: Runs by row and program.
        problems: Why a program, or all, could not be measured; by program, `OURS` for all.
    """

    group: Group
    results: Results
    problems: dict[str, str]


def find_programs(peer: str | None) -> dict[str, str]:
    """Return the paths of the programs that are there; `peer` is the other cfsctl."""
    own = Path(sys.executable).parent
    found = {OURS: str(own / "cfsctl"), "python": sys.executable}
    if peer is not None:
        found["reference"] = os.path.abspath(peer)
    for name, program in {"ostree": "ostree", "fsverity": "fsverity", "c_fuse": "composefs-fuse"}.items():
        path = shutil.which(program)
        if path is not None:
            found[name] = path
    for name, program in {"c": "mkcomposefs", "c_info": "composefs-info"}.items():
        if (_C_TOOLS / program).exists():
            found[name] = str(_C_TOOLS / program)
    return found


def run_groups(groups: Sequence[Group], options: Options) -> list[Outcome]:
    """Run all groups, each in a new directory that is removed after it."""
    outcomes = []
    for group in groups:
        start = time.perf_counter()
        outcomes.append(_run_group(group, options))
        _tell(f"{group.name}: took {time.perf_counter() - start:.0f} s")
    return outcomes


def _run_group(group: Group, options: Options) -> Outcome:
    path = Path(tempfile.mkdtemp(prefix=f"bench-{group.name}-", dir=options.work))
    place = Place(path, options.scale, options.tree, options.delay_ms, options.programs)
    runner = _Runner(group, place, options)
    try:
        _tell(f"{group.name}: preparing")
        with group.prepare(place) as values:
            runner.run(values)
    # A server that is not installed skips, since tests start it too.
    except (Exception, SystemExit, pytest.skip.Exception) as error:  # noqa: BLE001 - the other groups go on
        runner.problems[OURS] = f"{error}"
        _tell(f"{group.name}: {error!r}")
    finally:
        shutil.rmtree(path, ignore_errors=True)
    return Outcome(group, runner.results, runner.problems)


class _Runner:
    """Runs one group."""

    def __init__(self, group: Group, place: Place, options: Options) -> None:
        self._group = group
        self._place = place
        self._options = options
        self._paths = {name: shlex.quote(path) for name, path in options.programs.items()}
        self.results: Results = {row.name: {} for row in group.rows}
        self.problems: dict[str, str] = {}

    def run(self, values: Mapping[str, str]) -> None:
        rounds = min(self._options.rounds, self._group.rounds)
        if self._group.measure is not None:
            self.results |= self._group.measure(self._place, values, rounds, self._options.niceness)
            return
        names = [name for name in PROGRAMS if any(name in step.commands for step in self._group.steps)]
        present = [name for name in names if name in self._paths]
        self.problems |= dict.fromkeys(set(names) - set(present), "not given, or not installed")
        for number in range(rounds):
            for name in present if number % 2 == 0 else reversed(present):
                if name not in self.problems:
                    _tell(f"{self._group.name}: round {number + 1} of {rounds}, {name}")
                    self._run_steps(name, number, values)

    def _run_steps(self, name: str, number: int, values: Mapping[str, str]) -> None:
        store = shlex.quote(str(self._place.path / f"store-{name}-{number}"))
        unique = str(number * len(PROGRAMS) + PROGRAMS.index(name))
        filled = {**self._paths, **values, "store": store, "number": unique}
        os.sync()
        try:
            for step in self._group.steps:
                if name in step.commands:
                    self._run_step(step, name, step.commands[name].format(**filled))
        except (OSError, subprocess.SubprocessError, SystemExit) as error:
            self.problems[name] = f"{error}"
            _tell(f"{self._group.name}: {name}: {error}")

    def _run_step(self, step: Row | Setup, name: str, command: str) -> None:
        if isinstance(step, Row):
            runs = self.results[step.name].setdefault(name, [])
            runs += [measure(command, self._options.niceness) for _ in range(step.repeat)]
            return
        subprocess.run(command, shell=True, check=True, stdout=subprocess.DEVNULL)
        time.sleep(step.pause_s)


def _tell(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
