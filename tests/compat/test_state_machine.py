"""Two programs work on one repository in turn, and whatever they do, everything that has a name stays whole.

``CFSCTL_PEER`` names the other program, as the original; without it this program plays both parts, in two
configurations. ``CFSCTL_MACHINE_SEEDS`` is a range of other seeds for the deep run, as ``100-160``. A failure
says which steps led to it.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.compat.machine import containers, fuse  # noqa: F401 - which add operations
from tests.compat.machine.operations import OPERATIONS
from tests.compat.machine.programs import find_programs
from tests.compat.machine.sources import Sources
from tests.compat.machine.world import Step, World

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.compat.machine.operations import Operation
    from tests.compat.machine.programs import Program

pytestmark = pytest.mark.compat

QUICK_SEEDS, QUICK_STEPS = range(3), 12
DEEP_STEPS = 40
OTHER_CHECKS_EVERY = 3
"""Steps after which the other program is asked too."""


def deep_seeds() -> range:
    first, _, last = os.environ.get("CFSCTL_MACHINE_SEEDS", "100-119").partition("-")
    return range(int(first), int(last or first) + 1)


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sources]:
    sources = Sources(tmp_path_factory.mktemp("sources"))
    with sources.serve():
        yield sources


def play(world: World, steps: int) -> None:
    history: list[str] = []
    try:
        for number in range(steps):
            program, chosen = choose(world)
            history.append(f"{program.name}: {chosen.name}")
            step = chosen.operate(world, program)
            if isinstance(step, Step):
                history[-1] += f" {' '.join(step.arguments[2:])}"
                step.apply(program, program.run(*step.arguments))
            world.check(also_other=number % OTHER_CHECKS_EVERY == 0 or number == steps - 1)
    except BaseException as error:
        error.add_note("steps:\n" + "\n".join(history) + f"\nmodel: {world.model}")
        raise


def choose(world: World) -> tuple[Program, Operation]:
    """Choose who does something, and what, of all that is possible."""
    program = world.random.choice((world.ours, world.other))
    possible = [
        one
        for one in OPERATIONS
        if (one.by_both or not program.is_original) and one.is_possible(world, program)
    ]
    return program, world.random.choices(possible, [one.weight for one in possible])[0]


@pytest.mark.parametrize("seed", QUICK_SEEDS)
def test_some_steps(tmp_path: Path, sources: Sources, seed: int) -> None:
    play(World(tmp_path, seed, find_programs(), sources), QUICK_STEPS)


@pytest.mark.deep
@pytest.mark.parametrize("seed", deep_seeds())
def test_many_steps(tmp_path: Path, sources: Sources, seed: int) -> None:
    play(World(tmp_path, seed, find_programs(), sources), DEEP_STEPS)
