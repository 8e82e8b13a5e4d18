"""The worker pool: results, failures, deadlocks, and that no process is left behind."""

from __future__ import annotations

import errno
import os
import select
import signal
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, TypeVar

import pytest

from cfsctl.errors import DigestMismatchError, ExitCode
from cfsctl.workers import WorkerDiedError, WorkerFailedError, WorkerPool, default_worker_count
from tests.support.waiting import has_ended, wait_until

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.alone

T = TypeVar("T")
R = TypeVar("R")


def _square(number: int) -> int:
    return number * number


def _make_square() -> Callable[[int], int]:
    return _square


def _pid(_: int) -> int:
    return os.getpid()


def _make_pid() -> Callable[[int], int]:
    return _pid


def _run(make: Callable[[], Callable[[T], R]], *tasks: T, count: int = 1) -> list[R]:
    """Return the results of all tasks from a pool made for them."""
    with WorkerPool(make, count) as pool:
        return list(pool.map_unordered(tasks))


@pytest.mark.parametrize("count", [0, 1, 3])
def test_each_task_gives_one_result(count: int) -> None:
    with WorkerPool(_make_square, count) as pool:
        assert pool.count == count
        assert sorted(pool.map_unordered(range(100))) == [n * n for n in range(100)]
        assert pool.pending == 0
        assert pool.poll() == []


def test_default_count_follows_the_processors() -> None:
    assert 1 <= default_worker_count() <= len(os.sched_getaffinity(0))


def test_workers_are_other_processes() -> None:
    with WorkerPool(_make_pid, 2) as pool:
        pids = set(pool.map_unordered(range(50)))
    assert os.getpid() not in pids
    assert 1 <= len(pids) <= 2


def test_handler_sees_what_the_parent_had() -> None:
    table = {"key": b"value"}
    assert _run(lambda: table.__getitem__, "key") == [b"value"]


def test_large_tasks_and_results_do_not_deadlock() -> None:
    # Far more than socket buffers hold, in both directions, submitted before anything is taken.
    size = 3 << 20

    def reverse(data: bytes) -> bytes:
        return data[::-1]

    with WorkerPool(lambda: reverse, 2) as pool:
        for index in range(8):
            pool.submit(bytes([index]) * size)
        results = sorted(pool.iter_results())
    assert results == [bytes([index]) * size for index in range(8)]


def test_heavy_task_does_not_hold_up_light_ones() -> None:
    waits, go = os.pipe()

    def make() -> Callable[[str], tuple[str, int]]:
        def work(kind: str) -> tuple[str, int]:
            if kind == "heavy":
                os.read(waits, 1)
            return kind, os.getpid()

        return work

    with WorkerPool(make, 2, window=10) as pool:
        pool.submit("heavy", weight=100)
        for _ in range(6):
            pool.submit("light", weight=5)
        light: list[tuple[str, int]] = []
        while pool.pending > 1:
            light += pool.poll()
        os.write(go, b"x")
        ((kind, heavy),) = pool.iter_results()
    os.close(waits)
    os.close(go)
    assert kind == "heavy"
    assert [kind for kind, pid in light if pid != heavy] == ["light"] * 6


@pytest.mark.parametrize("count", [0, 2])
def test_descriptor_says_when_poll_has_something(count: int) -> None:
    with WorkerPool(_make_square, count) as pool:
        assert select.select([pool], [], [], 0)[0] == []
        pool.submit(7)
        assert select.select([pool], [], [], 120)[0] == [pool]
        assert pool.poll(120) == [49]
        assert select.select([pool], [], [], 0)[0] == []


def test_poll_gives_up_after_its_timeout() -> None:
    waits, go = os.pipe()

    def read(size: int) -> bytes:
        return os.read(waits, size)

    with WorkerPool(lambda: read, 1) as pool:
        pool.submit(1)
        assert pool.poll(0) == []
        assert pool.poll(0.01) == []
        assert pool.pending == 1
        os.write(go, b"x")
        assert pool.poll(120) == [b"x"]
    os.close(waits)
    os.close(go)


class _Unpicklable(Exception):  # noqa: N818 - stands for a class of any name
    def __init__(self) -> None:
        super().__init__("carries a lock")
        self.lock = threading.Lock()


def _raise(error: Exception) -> Callable[[], Callable[[int], int]]:
    def work(number: int) -> int:
        if number == 3:
            raise error from KeyError("reason")
        return number

    return lambda: work


@pytest.mark.parametrize("count", [0, 1])
def test_error_of_a_handler_is_raised_with_its_parts(count: int) -> None:
    failure = DigestMismatchError("object 12", expected="aa", actual="bb", hint="try again")
    with pytest.raises(DigestMismatchError, match="object 12: expected digest aa, found bb") as caught:
        _run(_raise(failure), *range(5), count=count)
    assert caught.value.what == "object 12"
    assert caught.value.hint == "try again"
    assert caught.value.exit_code is ExitCode.CORRUPTION
    assert isinstance(caught.value.__cause__, KeyError)


def test_system_error_keeps_errno_and_path() -> None:
    with pytest.raises(FileNotFoundError) as caught:
        _run(lambda: os.stat, "/nonexistent/x")
    assert caught.value.errno == errno.ENOENT
    assert caught.value.filename == "/nonexistent/x"


def test_unexpected_error_says_where_it_happened() -> None:
    def divide(number: int) -> int:
        return 1 // number

    with pytest.raises(ZeroDivisionError) as caught:
        _run(lambda: divide, 0)
    assert "in divide" in caught.value.__notes__[0]


def test_error_that_cannot_travel_is_described() -> None:
    with pytest.raises(WorkerFailedError, match="_Unpicklable: carries a lock"):
        _run(_raise(_Unpicklable()), 3)


def test_an_error_travels_without_a_cause_that_cannot() -> None:
    """Extension modules raise classes that nobody finds by their name."""
    nameless = type("Nameless", (Exception,), {"__module__": "nowhere"})

    def work(_number: int) -> int:
        raise DigestMismatchError("object 12", expected="aa", actual="bb") from nameless("deep down")

    with pytest.raises(DigestMismatchError, match="object 12") as caught:
        _run(lambda: work, 1)
    assert str(caught.value.__cause__) == "Nameless: deep down"


def test_results_before_an_error_are_not_lost() -> None:
    seen: list[int] = []
    with WorkerPool(_raise(ValueError("no")), 1) as pool:
        for number in (1, 2, 3):
            pool.submit(number)
        with pytest.raises(ValueError, match="no"):
            seen.extend(pool.iter_results())
    assert seen == [1, 2]


def test_an_error_that_comes_with_the_last_results_is_not_lost() -> None:
    answered_read, answered_write = os.pipe()

    def work(task: str) -> str:
        if task == "fail":
            raise ValueError("no")
        if task == "tell":
            os.write(answered_write, b"x")
        return task

    seen: list[str] = []
    with WorkerPool(lambda: work, 1, window=10) as pool:
        for task in ("do", "fail", "tell"):
            pool.submit(task)
        os.read(answered_read, 1)  # The answers to the first two have been sent by now.
        with pytest.raises(ValueError, match="no"):
            seen.extend(pool.iter_results())
        assert seen[:1] == ["do"]
        seen.extend(pool.iter_results())
        assert seen == ["do", "tell"]
        assert pool.pending == 0
    os.close(answered_read)
    os.close(answered_write)


def test_failing_set_up_is_reported() -> None:
    def make() -> Callable[[int], int]:
        raise OSError(errno.EACCES, "no entry", "/x")

    with pytest.raises(PermissionError, match="no entry"):
        _run(make, 1, count=2)


def test_dead_worker_is_an_error_that_names_the_signal() -> None:
    def work(_: int) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerDiedError, match="SIGKILL"):
        _run(lambda: work, 1, count=2)


def test_nothing_is_waited_for_when_all_workers_are_dead() -> None:
    with WorkerPool(lambda: os._exit, 2, window=1) as pool:
        for code in (3, 4, 5, 6):
            pool.submit(code)
        for _ in range(2):
            with pytest.raises(WorkerDiedError, match=r"exit code [34]"):
                pool.poll()
        assert pool.pending == 0
        assert pool.poll() == []
        with pytest.raises(WorkerDiedError, match="no worker process is left"):
            pool.submit(7)


def test_worker_that_exits_is_an_error() -> None:
    with pytest.raises(WorkerDiedError, match="exit code 7"):
        _run(lambda: os._exit, 7)


def test_closing_leaves_neither_processes_nor_descriptors() -> None:
    before = sorted(os.listdir("/proc/self/fd"))
    with WorkerPool(_make_pid, 3) as pool:
        pids = set(pool.map_unordered(range(30)))
    assert sorted(os.listdir("/proc/self/fd")) == before
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


def test_aborting_does_not_wait_for_the_work() -> None:
    with WorkerPool(lambda: time.sleep, 2) as pool:
        pool.submit(3600)
        pool.submit(3600)
    assert pool.count == 0


def test_aborted_worker_cleans_up(tmp_path: os.PathLike[str]) -> None:
    marks = os.fspath(tmp_path)

    def work(_: int) -> None:
        try:
            os.mkdir(f"{marks}/began")
            time.sleep(3600)
        finally:
            os.mkdir(f"{marks}/cleaned")

    with WorkerPool(lambda: work, 1) as pool:
        pool.submit(1)
        while not os.path.exists(f"{marks}/began"):
            time.sleep(0.01)
        pool.close(abort=True)
    assert os.path.exists(f"{marks}/cleaned")


@pytest.mark.parametrize("count", [0, 1])
def test_handler_is_closed_at_the_end(count: int, tmp_path: os.PathLike[str]) -> None:
    mark = os.path.join(tmp_path, "closed")

    class Handler:
        def __call__(self, number: int) -> int:
            return number

        def close(self) -> None:
            os.mkdir(mark)

    with WorkerPool(Handler, count) as pool:
        assert list(pool.map_unordered([1])) == [1]
        assert not os.path.exists(mark)
    assert os.path.exists(mark)


def test_two_pools_do_not_keep_each_other_alive() -> None:
    with WorkerPool(_make_pid, 1) as first:
        first.submit(0)
        (pid,) = first.poll()
        with WorkerPool(_make_square, 1) as second:
            first.close()
            wait_until(lambda: has_ended(pid))
            assert list(second.map_unordered([3])) == [9]


def test_process_with_threads_does_not_fork() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with WorkerPool(_make_pid, 2) as pool:
            assert pool.count == 0
            assert set(pool.map_unordered(range(4))) == {os.getpid()}
    finally:
        release.set()
        thread.join()


_PROGRAM = """
import atexit, os, signal, sys, time
from cfsctl.workers import WorkerPool

atexit.register(lambda: print("exit handler", flush=True))

def work(task):
    if task:
        os.write(1, b"%d\\n" % os.getpid())
        time.sleep(3600)
    return os.getpid()

sys.stdout.write("unflushed ")
with WorkerPool(lambda: work, 2) as pool:
    if sys.argv[1] == "run":
        pids = list(pool.map_unordered([0] * 10))
    else:
        pool.submit(1)
        pool.submit(1)
        pool.poll()
"""


def _start(mode: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", _PROGRAM, mode],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
        # Buffered, whatever the tests are run with: what is about to be written must not be written twice.
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )


def test_workers_run_no_exit_handlers_and_flush_no_copied_output() -> None:
    with _start("run") as process:
        output, errors = process.communicate(timeout=120)
    assert (output, errors, process.returncode) == (b"unflushed exit handler\n", b"", 0)


def _read_pids(process: subprocess.Popen[bytes]) -> list[int]:
    assert process.stdout is not None
    return [int(process.stdout.readline().split()[-1]) for _ in range(2)]


def test_workers_end_when_the_parent_is_killed() -> None:
    with _start("hang") as process:
        pids = _read_pids(process)
        process.kill()
        process.wait()
    wait_until(lambda: all(map(has_ended, pids)))


def test_interrupt_from_the_terminal_ends_everything() -> None:
    with _start("hang") as process:
        pids = _read_pids(process)
        os.killpg(process.pid, signal.SIGINT)
        _, errors = process.communicate(timeout=120)
    assert process.returncode == -signal.SIGINT
    assert errors.count(b"KeyboardInterrupt") == 1
    wait_until(lambda: all(map(has_ended, pids)))
