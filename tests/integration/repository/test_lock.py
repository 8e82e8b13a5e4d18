"""The lock between processes: who waits for whom, and what is said meanwhile."""

from __future__ import annotations

import calendar
import fcntl
import os
import re
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import ExitCode
from cfsctl.progress import Message
from cfsctl.repository import LockedError, Repository, init_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.locking import holders as lock_holders
from cfsctl.repository.locking.holders import find_holders
from cfsctl.repository.locking.lock import RepositoryLock
from tests.support.programs import CFSCTL, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.progress import Event


@pytest.fixture
def path(tmp_path: Path) -> str:
    init_repository(str(tmp_path), insecure=True)
    return str(tmp_path)


class Holder:
    """Another process that holds the lock."""

    def __init__(self, path: str, operation: int) -> None:
        ready, self._ready = os.pipe()
        self._wait, self._stop = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            os.close(self._stop)
            fd = os.open(path, os.O_RDONLY)
            fcntl.flock(fd, operation)
            os.write(self._ready, b"x")
            os.read(self._wait, 1)
            os._exit(0)
        os.close(self._ready)
        os.close(self._wait)
        assert os.read(ready, 1) == b"x"
        os.close(ready)

    def stop(self) -> None:
        stop, self._stop = self._stop, -1
        if stop >= 0:
            os.close(stop)
            os.waitpid(self.pid, 0)


@pytest.fixture
def shared(path: str) -> Iterator[Holder]:
    holder = Holder(path, fcntl.LOCK_SH)
    yield holder
    holder.stop()


@pytest.fixture
def exclusive(path: str) -> Iterator[Holder]:
    holder = Holder(path, fcntl.LOCK_EX)
    yield holder
    holder.stop()


def can_lock(path: str, operation: int) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        fcntl.flock(fd, operation | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    finally:
        os.close(fd)
    return True


def test_open_repository_is_shared(path: str) -> None:
    with Repository.open(path), Repository.open(path):
        assert can_lock(path, fcntl.LOCK_SH)
        assert not can_lock(path, fcntl.LOCK_EX)
    assert can_lock(path, fcntl.LOCK_EX)


def test_collection_is_alone_and_shares_again(path: str) -> None:
    with Repository.open(path) as repository:
        states = [repository.lock.is_exclusive]
        with repository.lock.exclusive():
            states.append(repository.lock.is_exclusive)
            assert not can_lock(path, fcntl.LOCK_SH)
        states.append(repository.lock.is_exclusive)
        assert states == [False, True, False]
        assert can_lock(path, fcntl.LOCK_SH)
        assert not can_lock(path, fcntl.LOCK_EX)


def test_collection_next_to_another_user(path: str, shared: Holder) -> None:
    with Repository.open(path) as repository:
        assert collect_garbage(repository, dry_run=True).objects_removed == 0
        with pytest.raises(LockedError, match=f"process {shared.pid} ") as caught:
            collect_garbage(repository, lock_timeout_s=0.05)
        assert caught.value.exit_code == ExitCode.LOCKED
        shared.stop()
        assert collect_garbage(repository, lock_timeout_s=0.05).objects_removed == 0


def test_opening_next_to_a_collection(path: str, exclusive: Holder) -> None:
    for timeout_s in (0, 0.05):
        with pytest.raises(LockedError, match=f"process {exclusive.pid} "):
            Repository.open(path, lock_timeout_s=timeout_s)
    with pytest.raises(LockedError):
        init_repository(path, insecure=True, lock_timeout_s=0)
    exclusive.stop()
    Repository.open(path, lock_timeout_s=0).close()


def test_reset_waits_for_other_users(path: str, shared: Holder) -> None:
    assert init_repository(path, insecure=True, lock_timeout_s=0).name == "EXISTED"
    with pytest.raises(LockedError):
        init_repository(path, insecure=True, reset_metadata=True, lock_timeout_s=0)
    shared.stop()
    assert init_repository(path, insecure=True, reset_metadata=True, lock_timeout_s=0).name == "CREATED"


@pytest.mark.parametrize("timeout_s", [None, 300.0])
def test_waiting_says_for_whom(path: str, exclusive: Holder, timeout_s: float | None) -> None:
    messages: list[str] = []

    def report(event: Event, /) -> None:
        assert isinstance(event, Message)
        messages.append(event.text)
        threading.Thread(target=exclusive.stop).start()

    Repository.open(path, lock_timeout_s=timeout_s, reporter=report).close()
    assert len(messages) == 1
    assert f"held by process {exclusive.pid} (" in messages[0]
    assert path in messages[0]


def test_two_collections_at_once_end(path: str) -> None:
    """Both hold the shared lock and want the exclusive one; neither may wait for the other for ever."""
    barrier = threading.Barrier(2)
    done: list[int] = []

    def collect() -> None:
        with Repository.open(path) as repository:
            barrier.wait(120)
            done.append(collect_garbage(repository, lock_timeout_s=120).objects_removed)

    threads = [threading.Thread(target=collect) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(240)
    assert done == [0, 0]


def test_failure_within_a_collection_gives_the_lock_back(path: str) -> None:
    def fail(repository: Repository) -> None:
        with repository.lock.exclusive():
            raise InterruptedError

    with Repository.open(path) as repository:
        with pytest.raises(InterruptedError):
            fail(repository)
        assert can_lock(path, fcntl.LOCK_SH)


def test_lock_of_a_forked_process_ends_with_the_repository(path: str) -> None:
    """A worker shares the descriptor, so closing it alone would leave the lock in place."""
    read, write = os.pipe()
    with Repository.open(path):
        pid = os.fork()
        if pid == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
    os.close(read)
    assert can_lock(path, fcntl.LOCK_EX)
    os.close(write)
    os.waitpid(pid, 0)


def test_holders(path: str, shared: Holder) -> None:
    fd = os.open(path, os.O_RDONLY)
    assert find_holders(fd) == [shared.pid]
    lock = RepositoryLock(fd, path)
    lock.share()
    assert find_holders(fd) == sorted([shared.pid, os.getpid()])
    lock.release()
    with pytest.raises(LockedError), lock.exclusive(0):
        pass
    os.close(fd)


def test_the_command_line_of_the_holder_and_its_start_are_named(path: str) -> None:
    script = (
        "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX);"
        " print('x', flush=True); sys.stdin.read()"
    )
    command = [sys.executable, "-c", script, path]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.read(1)
        with pytest.raises(LockedError) as caught:
            Repository.open(path, lock_timeout_s=0)
        holder.communicate(b"")
    words = str(caught.value)
    assert re.search(rf"held by process {holder.pid} \(python\S* -c import fcntl", words)
    started = re.search(r"running since (\d{4}-\d\d-\d\d \d\d:\d\d:\d\d) UTC", words)
    assert started is not None
    age = time.time() - calendar.timegm(time.strptime(started[1], "%Y-%m-%d %H:%M:%S"))
    assert -5 < age < 3600


def test_interpreter_is_left_out_of_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    words = [sys.executable, str(CFSCTL), "--repo", "/nowhere", "init"]
    monkeypatch.setattr(lock_holders, "_read", lambda _path: "\0".join(words) + "\0")
    monkeypatch.setattr(lock_holders, "is_trusted_process", lambda _pid: True)
    assert lock_holders._find_command(1) == "cfsctl --repo /nowhere init"


def test_holder_that_inherited_the_lock_is_found(path: str) -> None:
    """Whoever took the lock has ended; a child of his has the file still open."""
    read, write = os.pipe()
    tell, told = os.pipe()
    first = os.fork()
    if first == 0:
        fcntl.flock(os.open(path, os.O_RDONLY), fcntl.LOCK_EX)
        if (second := os.fork()) == 0:
            os.close(write)
            os.read(read, 1)
            os._exit(0)
        os.write(told, b"%d" % second)
        os._exit(0)
    os.close(read)
    os.waitpid(first, 0)
    heir = int(os.read(tell, 20))
    with pytest.raises(LockedError, match=f"held by process {heir} "):
        Repository.open(path, lock_timeout_s=0)
    os.close(write)
    Repository.open(path, lock_timeout_s=300).close()


@pytest.mark.parametrize(
    "arguments", [["images"], ["gc"], ["fsck"], ["init", "--insecure"], ["ostree", "images"]], ids=" ".join
)
def test_lock_timeout_of_every_command(path: str, exclusive: Holder, arguments: list[str]) -> None:
    result = run_cfsctl("--repo", path, "--lock-timeout", "0.05", *arguments)
    assert (result.returncode, result.stdout) == (ExitCode.LOCKED, "")
    assert f"held by process {exclusive.pid} " in result.stderr
    assert "--lock-timeout" in result.stderr


def test_lock_timeout_of_a_collection_beside_a_reader(path: str, shared: Holder) -> None:
    result = run_cfsctl("--repo", path, "--lock-timeout", "0", "gc")
    assert (result.returncode, result.stdout) == (ExitCode.LOCKED, "")
    assert f"held by process {shared.pid} " in result.stderr
    assert run_cfsctl("--repo", path, "--lock-timeout", "0", "gc", "--dry-run").returncode == 0
    shared.stop()
    assert run_cfsctl("--repo", path, "--lock-timeout", "0", "gc").returncode == 0


@pytest.mark.parametrize("text", ["-1", "x", "nan", "inf"])
def test_lock_timeout_that_is_none(path: str, text: str) -> None:
    assert run_cfsctl("--repo", path, "--lock-timeout", text, "images").returncode == ExitCode.USAGE


def test_memory_of_a_process_that_is_not_trusted_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its command line could be in a file of a file system that does not answer."""
    asked: list[str] = []
    read = lock_holders._read

    def note(path: str) -> str:
        asked.append(path)
        return read(path)

    monkeypatch.setattr(lock_holders, "_read", note)
    monkeypatch.setattr(lock_holders, "is_trusted_process", lambda _: False)
    command = lock_holders._find_command(os.getpid())
    assert command == Path("/proc/self/comm").read_text().strip()
    assert not [path for path in asked if path.endswith("/cmdline")]
