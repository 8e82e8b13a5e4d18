"""Large files are hashed in several threads, with the result of one."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import threading
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity import lanes, merkle, threaded
from cfsctl.fsverity.merkle import FileDigester, compute_digest
from cfsctl.fsverity.threaded import hash_in_threads
from cfsctl.workers.threads import join

if TYPE_CHECKING:
    from pathlib import Path

BLOCK = 4096
CHUNK = 4 * BLOCK


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threaded, "CHUNK_BYTES", CHUNK)
    monkeypatch.setattr(threaded, "_READ_BYTES", 3 * BLOCK)
    monkeypatch.setattr(threaded, "_AHEAD_BYTES", 2 * CHUNK)
    monkeypatch.setattr(merkle, "_THREADED_BYTES", 2 * CHUNK)


def hash_blocks(view: memoryview, end: int) -> bytes:
    return b"".join([hashlib.sha256(view[at : at + BLOCK]).digest() for at in range(0, end, BLOCK)])


def expected_digests(data: bytes) -> bytes:
    padded = data + bytes(-len(data) % BLOCK)
    return hash_blocks(memoryview(padded), len(padded))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(random.Random(1).randbytes(9 * CHUNK))
    return path


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize("size", [0, 1, BLOCK, CHUNK - 1, CHUNK, 5 * CHUNK + 3 * BLOCK + 7, 8 * CHUNK])
def test_digests_come_in_order_up_to_the_end_of_the_file(path: Path, size: int, count: int) -> None:
    os.truncate(path, BLOCK + size)
    with path.open("rb") as file:
        found: list[bytes] = []
        end = hash_in_threads(file.fileno(), BLOCK, BLOCK + 8 * CHUNK, hash_blocks, found.append, count)
        assert file.tell() == 0
    assert end == BLOCK + size
    assert b"".join(found) == expected_digests(path.read_bytes()[BLOCK:])


def test_what_was_read_before_the_file_became_shorter_is_dropped(path: Path) -> None:
    """The second chunk is read and hashed before the first, and the file then ends within the first."""
    is_second_done = threading.Event()
    found: list[bytes] = []
    with path.open("rb") as file:
        first_block = os.pread(file.fileno(), BLOCK, 0)

        def hash_late(view: memoryview, end: int) -> bytes:
            if view[:BLOCK] == first_block:
                assert is_second_done.wait(60)
                os.truncate(path, BLOCK)
            else:
                is_second_done.set()
            return hash_blocks(view, end)

        assert hash_in_threads(file.fileno(), 0, 9 * CHUNK, hash_late, found.append, 2) == 3 * BLOCK
    assert len(b"".join(found)) == 3 * 32


@pytest.mark.parametrize("failing", ["calling", "other"])
def test_failure_of_a_thread_is_raised_and_ends_all(path: Path, failing: str) -> None:
    main = threading.current_thread()
    before = threading.active_count()
    has_failed = threading.Event()

    def fail(view: memoryview, end: int) -> bytes:
        if (threading.current_thread() is main) == (failing == "calling"):
            has_failed.set()
            raise OSError(errno.EIO, "no")
        assert has_failed.wait(60)
        return hash_blocks(view, end)

    with path.open("rb") as file, pytest.raises(OSError, match="no"):
        hash_in_threads(file.fileno(), 0, 9 * CHUNK, fail, lambda _: None, 2)
    assert threading.active_count() == before


def test_work_is_done_where_no_thread_can_be_started(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", refuse)
    found: list[bytes] = []
    with path.open("rb") as file:
        assert hash_in_threads(file.fileno(), 0, 9 * CHUNK, hash_blocks, found.append, 4) == 9 * CHUNK
    assert b"".join(found) == expected_digests(path.read_bytes())


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("rest", [-1, 0, 1, BLOCK, CHUNK - 1])
def test_digest_of_a_file_is_that_of_its_bytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, algorithm: Algorithm, rest: int
) -> None:
    """The threads are used, whether there are lanes or not, and see neither the beginning nor the rest."""
    used: list[int] = []

    def count(*arguments: object) -> int:
        used.append(1)
        return hash_in_threads(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(threaded, "hash_in_threads", count)
    monkeypatch.setattr(merkle._Suite, "has_lanes", True)
    monkeypatch.setattr("cfsctl.workers.threads.thread_count", lambda: 3)
    data = random.Random(2).randbytes(merkle.READ_SIZE + 9 * CHUNK + rest)
    path = tmp_path / "file"
    path.write_bytes(data)
    with path.open("rb") as file:
        digest = FileDigester(algorithm, may_thread=True).compute(file.fileno())
    assert digest == (compute_digest(data, algorithm), len(data))
    assert used


def test_no_threads_without_lanes(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL hashes one block in a call, and threads would wait for each other more than they hash."""
    monkeypatch.setattr("cfsctl.workers.threads.thread_count", lambda: 3)
    monkeypatch.setattr(lanes, "_load", lambda: None)
    monkeypatch.setattr(merkle, "_SUITES", {})
    monkeypatch.setattr(threaded, "hash_in_threads", None)
    with path.open("rb") as file:
        digest, _ = FileDigester(Algorithm.SHA512, may_thread=True).compute(file.fileno())
    assert digest == compute_digest(path.read_bytes(), Algorithm.SHA512)


def test_threads_have_left_the_process(path: Path) -> None:
    """A process that has other threads does not fork."""
    with path.open("rb") as file:
        hash_in_threads(file.fileno(), 0, 9 * CHUNK, hash_blocks, lambda _: None, 3)
    for thread in threading.enumerate():
        if thread.name == "hashing":
            join(thread, 60)
    assert "hashing" not in {thread.name for thread in threading.enumerate()}
