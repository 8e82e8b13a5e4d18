"""A joined thread is one that the kernel has ended too."""

from __future__ import annotations

import os
import threading

import pytest

from cfsctl.workers import WorkerPool
from cfsctl.workers.threads import join, thread_count


def test_the_kernel_thread_has_ended() -> None:
    for _ in range(200):
        thread = threading.Thread(target=int)
        thread.start()
        join(thread, 60)
        assert not os.path.exists(f"/proc/self/task/{thread.native_id}")


def test_one_that_goes_on_is_left_alone() -> None:
    stopped = threading.Event()
    thread = threading.Thread(target=stopped.wait)
    thread.start()
    join(thread, 0)
    assert thread.is_alive()
    stopped.set()
    join(thread, 60)
    assert not thread.is_alive()


@pytest.mark.parametrize(("processors", "expected"), [(1, 1), (2, 2), (64, 4)])
def test_threads_for_the_processors_that_may_be_used(
    monkeypatch: pytest.MonkeyPatch, processors: int, expected: int
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(processors)))
    assert thread_count() == expected


@pytest.mark.alone
def test_a_worker_uses_one_thread() -> None:
    """There are as many workers as processors."""
    with WorkerPool[None, tuple[bool, int]](
        lambda: lambda _: (os.getpid() == parent, thread_count()), 1
    ) as pool:
        pool.submit(None)
        assert pool.poll() == [(False, 1)]


parent = os.getpid()
