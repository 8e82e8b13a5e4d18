"""A short run of the fuzz target of the command line, always the same, and a long one."""

from __future__ import annotations

import importlib.util
import itertools
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import ModuleType

TARGET = Path(__file__).parents[2] / "fuzz" / "fuzz_command_line.py"


@pytest.fixture(scope="module")
def target() -> Iterator[ModuleType]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    spec = importlib.util.spec_from_file_location("fuzz_command_line", TARGET)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    before = list(sys.path)
    spec.loader.exec_module(module)
    yield module
    sys.path[:] = before
    for number, handler in handlers.items():
        signal.signal(number, handler)


def run(target: ModuleType, seed: int, count: int) -> None:
    for data in itertools.islice(target.mutations(seed), count):
        try:
            target.one_input(data)
        except BaseException as error:
            error.add_note(f"input {data!r}")
            raise


def test_short_run(target: ModuleType) -> None:
    run(target, 14, 60)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(4))
def test_long_run(target: ModuleType, seed: int) -> None:
    run(target, seed, 2000)
