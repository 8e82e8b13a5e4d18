"""What a benchmark is made of: groups of rows, each row with the commands of every program and its aims.

A group prepares what its rows need, once. Then the programs take turns: in each round every program goes
through the steps of the group in order, in a store of its own. `benchmarks.running` does that.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Literal, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager
    from pathlib import Path

    from benchmarks.measuring import Run

    Results: TypeAlias = dict[str, dict[str, list[Run]]]
    """Runs by row and by program."""

OURS: Final = "ours"
REFERENCE: Final = "reference"
OSTREE: Final = "ostree"
FSVERITY: Final = "fsverity"
C: Final = "c"
"""Names of programs in declarations, tables and JSON; ``reference`` is the other cfsctl."""

PROGRAMS: Final = (OURS, REFERENCE, OSTREE, FSVERITY, C)

Commands: TypeAlias = "Mapping[str, str]"
"""Shell commands by program. What `Group.prepare` returned is filled in by name, and

* ``{ours}``, ``{reference}``, ``{c_info}`` ...: the paths of programs,
* ``{store}``: a path that is new for each program and round,
* ``{number}``: a number that is too.
"""

Field: TypeAlias = Literal["wall_s", "cpu_s", "peak_mb"]
UNITS: Final[Mapping[Field, str]] = {"wall_s": "s", "cpu_s": "s of cpu", "peak_mb": "MB"}


class Aim(NamedTuple):
    """What a row is meant to reach.

    Attributes:
        at_most: A ratio of medians if it is against something, otherwise a bound of ours.
        against: A program whose value is divided by, or the name of another row of ours, or empty.
        field: What is compared.
        without_lanes: In place of `at_most` where the processor has no wide vectors for hashing.
    """

    at_most: float
    against: str = ""
    field: Field = "wall_s"
    without_lanes: float | None = None


class Row(NamedTuple):
    """One thing that is measured.

    Attributes:
        name: What the row of the table is called; unique.
        commands: What each program runs.
        aims: What is wanted; none where a row is there for comparison.
        limit: What the time goes into, one sentence for the page about performance.
        repeat: How often it is run each time; for what is short.
    """

    name: str
    commands: Commands
    aims: tuple[Aim, ...]
    limit: str
    repeat: int = 1


class Setup(NamedTuple):
    """What is run between rows and not measured.

    Attributes:
        commands: What each program runs.
        pause_s: How long to wait after that.
    """

    commands: Commands
    pause_s: float = 0


@dataclass(frozen=True)
class Place:
    """Where and how large.

    Attributes:
        path: A new directory on the file system that is measured.
        scale: 1 for the sizes that aims are about.
        tree: A directory to make images of, or None to make one.
        delay_ms: Round-trip time to servers of this machine.
        programs: Paths by name, of those that are there.
    """

    path: Path
    scale: float
    tree: Path | None
    delay_ms: float
    programs: Mapping[str, str]

    def scaled(self, count: int) -> int:
        """Return how many of something to make."""
        return max(1, round(count * self.scale))


class Group(NamedTuple):
    """Rows that share what they need.

    Attributes:
        name: What `--only` takes.
        prepare: Makes what the rows need, below a place, for as long as the block lasts; yields what is
            filled in.
        steps: Rows and what is run between them, in order.
        measure: Measures the rows instead of running the commands: takes the place, what was prepared, how
            many rounds, and a niceness.
        rounds: How many rounds at most.
    """

    name: str
    prepare: Callable[[Place], AbstractContextManager[Mapping[str, str]]]
    steps: tuple[Row | Setup, ...]
    measure: Callable[[Place, Mapping[str, str], int, int], Results] | None = None
    rounds: int = 1000

    @property
    def rows(self) -> tuple[Row, ...]:
        """The rows among the steps."""
        return tuple(step for step in self.steps if isinstance(step, Row))


def both(arguments: str) -> dict[str, str]:
    """Return the same command line of our cfsctl and of the other."""
    return {OURS: f"{{ours}} {arguments}", REFERENCE: f"{{reference}} {arguments}"}


def nothing(_place: Place) -> AbstractContextManager[Mapping[str, str]]:
    """Prepare nothing."""
    return contextlib.nullcontext({})
