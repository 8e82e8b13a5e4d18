"""Results of tasks outlive errors, and tasks say how far they are."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError
from cfsctl.workers import WorkerDiedError, WorkerPool
from cfsctl.workers.batches import Batches, PartlyDoneError, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable

# A process of xdist has threads, in which the pool does not fork: tasks would run, and die, in that process.
pytestmark = pytest.mark.alone


def halve() -> Callable[[int], list[int]]:
    """Return a handler that lists the numbers below an even one, and fails in the middle of an odd one."""

    def handle(number: int) -> list[int]:
        if number % 2:
            raise PartlyDoneError(list(range(number // 2))) from CfsError(f"{number} is odd")
        return list(range(number))

    return handle


def poll_all(batches: Batches[int, list[int]], found: list[list[int]]) -> None:
    while batches.pending:
        found += batches.poll()


@pytest.mark.parametrize("count", [0, 1, 3])
def test_what_was_done_before_an_error_is_kept(count: int) -> None:
    with Batches[int, list[int]](halve, count) as batches:
        for number in (4, 7, 2, 5):
            batches.submit(number)
        found: list[list[int]] = []
        with pytest.raises(CfsError, match="is odd") as caught:
            poll_all(batches, found)
        assert not isinstance(caught.value, PartlyDoneError)
        found += batches.drain()
        assert not batches.pending
        assert batches.drain() == []
    assert sorted(found) == [[0, 1], [0, 1], [0, 1, 2], [0, 1, 2, 3]]


def test_there_is_room_until_each_worker_has_its_tasks() -> None:
    with Batches[int, list[int]](halve, 2, held=3) as batches:
        assert batches.count == 2
        for _ in range(6):
            assert batches.has_room
            batches.submit(2)
        assert not batches.has_room
        assert batches.drain() == [[0, 1]] * 6


def test_a_worker_that_died_ends_the_wait() -> None:
    def make() -> Callable[[int], int]:
        def handle(number: int) -> int:
            if number:
                os.kill(os.getpid(), signal.SIGKILL)
            return number

        return handle

    with Batches[int, int](make, 1) as batches:
        batches.submit(0)
        assert batches.poll() == [0]
        batches.submit(1)
        assert batches.drain() == []
        with pytest.raises(WorkerDiedError):
            batches.submit(2)


def test_no_time_is_no_wait() -> None:
    with Batches[int, list[int]](halve, 1) as batches:
        batches.submit(2)
        assert batches.drain(0) == []
        assert batches.pending == 1


def test_a_task_tells_how_far_it_is() -> None:
    counters = SharedCounters(2)

    def make() -> Callable[[int], int]:
        def handle(index: int) -> int:
            counters.writer(index)(1 << 40 | index)
            return index

        return handle

    assert counters.read(1) == 0
    with WorkerPool(make, 1) as pool:
        pool.submit(1)
        assert list(pool.iter_results()) == [1]
    assert (counters.read(0), counters.read(1)) == (0, 1 << 40 | 1)
