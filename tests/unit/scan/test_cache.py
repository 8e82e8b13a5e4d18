"""The cache file: what is kept, when it is believed, and what damage does."""

from __future__ import annotations

import hashlib
import os
import stat
import time
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.progress import Message
from cfsctl.scan import FileCache, cache
from cfsctl.scan.cache import CACHE_NAME, IS_PLAIN, STATE, VALUE_HEAD

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.progress import Event

ALGORITHM = Algorithm.SHA256
OBJECT_ID = ObjectID(bytes(range(32)))


@pytest.fixture
def dirfd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def _record(device: int, inode: int = 7, flags: int = IS_PLAIN, day: int | None = None) -> bytes:
    state = STATE.pack(device, inode, 1000, -5, 6)
    today = FileCache(os.open("/", os.O_PATH), ALGORITHM).today
    return state + VALUE_HEAD.pack(flags, today if day is None else day) + OBJECT_ID


def _save(dirfd: int, *records: bytes) -> None:
    written = FileCache.load(dirfd, ALGORITHM)
    for record in records:
        written.absorb(record)
    assert written.save()


def _load(dirfd: int, algorithm: Algorithm = ALGORITHM) -> tuple[dict[bytes, bytes], list[str]]:
    events: list[Event] = []
    loaded = FileCache.load(dirfd, algorithm, reporter=events.append)
    return loaded.records, [event.text for event in events if isinstance(event, Message)]


def _flags(records: dict[bytes, bytes]) -> dict[int, int]:
    """Return inode to flags."""
    return {STATE.unpack(state)[1]: value[0] for state, value in records.items()}


def test_nothing_is_known_at_first_and_nothing_new_is_not_written(dirfd: int, tmp_path: Path) -> None:
    empty = FileCache.load(dirfd, ALGORITHM)
    assert empty.records == {}
    assert not empty.save()
    assert os.listdir(tmp_path) == []


def test_what_is_saved_is_loaded(dirfd: int, tmp_path: Path) -> None:
    one, other = _record(1, 1), _record(2, 2, flags=0)
    _save(dirfd, one, other)
    assert os.listdir(tmp_path) == [CACHE_NAME]
    assert stat.S_IMODE((tmp_path / CACHE_NAME).stat().st_mode) == 0o644, "like the rest of a repository"
    records, messages = _load(dirfd)
    assert messages == []
    assert {state + value for state, value in records.items()} == {one, other}


def test_saving_adds_to_what_is_there(dirfd: int) -> None:
    _save(dirfd, _record(1, 1), _record(1, 2))
    _save(dirfd, _record(1, 2, flags=0), _record(1, 3))
    assert _flags(_load(dirfd)[0]) == {1: IS_PLAIN, 2: 0, 3: IS_PLAIN}


def test_records_that_are_not_used_are_dropped_in_the_end(
    dirfd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    today = FileCache(dirfd, ALGORITHM).today
    _save(dirfd, _record(1, 1, day=today - 61), _record(1, 2, day=today - 60), _record(1, 3))
    _save(dirfd, _record(1, 4))
    assert set(_flags(_load(dirfd)[0])) == {2, 3, 4}
    monkeypatch.setattr(cache, "_MAX_RECORDS", 3)
    _save(dirfd, _record(1, 5))
    assert set(_flags(_load(dirfd)[0])) == {3, 4, 5}


def test_record_that_was_not_used_for_a_week_is_refreshed(dirfd: int) -> None:
    today = FileCache(dirfd, ALGORITHM).today
    for day, expected in ((today, False), (today - 6, False), (today - 7, True), (today + 7, True)):
        value = _record(1, day=day)[STATE.size :]
        assert FileCache(dirfd, ALGORITHM).needs_refresh(value) is expected


def test_next_boot_starts_afresh(dirfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(dirfd, _record(1, 1))
    monkeypatch.setattr(cache, "_read_boot_id", lambda: b"another boot id.")
    assert _load(dirfd) == ({}, [])
    _save(dirfd, _record(1, 2))
    assert set(_flags(_load(dirfd)[0])) == {2}


def test_unknown_boot_is_always_another_one(dirfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(dirfd, _record(1, 1))
    monkeypatch.setattr(cache, "_read_boot_id", lambda: bytes(16))
    unknown = FileCache.load(dirfd, ALGORITHM)
    assert unknown.records == {}
    unknown.absorb(_record(1, 3))
    assert not unknown.save()


def test_file_of_another_user_is_not_believed(dirfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(dirfd, _record(1, 1))
    real = os.geteuid()
    owner = os.fstat(dirfd).st_uid
    monkeypatch.setattr(os, "geteuid", lambda: real + 1)
    assert bool(_load(dirfd)[0]) is (owner == 0)


@pytest.mark.parametrize(("seconds", "is_kept"), [(0, True), (-0.5, True), (-2, False), (3600, True)])
def test_clock_that_was_set_back_ends_belief(
    dirfd: int, monkeypatch: pytest.MonkeyPatch, seconds: float, *, is_kept: bool
) -> None:
    _save(dirfd, _record(1, 1))
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * 1e9))
    assert bool(_load(dirfd)[0]) is is_kept


def test_clock_that_is_set_back_meanwhile_spoils_what_was_read(
    dirfd: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = FileCache.load(dirfd, ALGORITHM)
    running.absorb(_record(1))
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 10**10)
    assert not running.save()
    assert os.listdir(tmp_path) == []


def test_other_user_may_see_other_attributes(dirfd: int, monkeypatch: pytest.MonkeyPatch) -> None:
    _save(dirfd, _record(1, 1), _record(1, 2, flags=0))
    monkeypatch.setattr(cache, "_describe_viewer", lambda: b"somebody else...")
    assert _flags(_load(dirfd)[0]) == {1: 0, 2: 0}


def test_cache_of_another_repository_is_not_believed(dirfd: int, tmp_path: Path) -> None:
    _save(dirfd, _record(1))
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / CACHE_NAME).write_bytes((tmp_path / CACHE_NAME).read_bytes())
    fd = os.open(tmp_path / "copy", os.O_RDONLY)
    try:
        assert _load(fd) == ({}, [])
    finally:
        os.close(fd)


def test_cache_of_another_algorithm_is_not_used(dirfd: int) -> None:
    _save(dirfd, _record(1))
    assert _load(dirfd, Algorithm.SHA512) == ({}, [])


def test_every_flipped_bit_is_noticed(dirfd: int, tmp_path: Path) -> None:
    _save(dirfd, _record(1, 1), _record(1, 2))
    path = tmp_path / CACHE_NAME
    good = path.read_bytes()
    for position in range(len(good)):
        path.write_bytes(
            good[:position] + bytes((good[position] ^ 1 << position % 8,)) + good[position + 1 :]
        )
        records, messages = _load(dirfd)
        assert records == {}
        # Another version or algorithm is no damage, and looks like this.
        assert messages or position in range(8, 12)
    for size in range(len(good)):
        path.write_bytes(good[:size])
        assert _load(dirfd)[0] == {}
        assert len(_load(dirfd)[1]) == 1
    path.write_bytes(good + b"\0")
    assert "scan cache is not used: expected" in _load(dirfd)[1][0]


def test_count_that_does_not_fit_is_refused_before_anything_is_made_of_it(dirfd: int, tmp_path: Path) -> None:
    _save(dirfd, _record(1))
    path = tmp_path / CACHE_NAME
    data = bytearray(path.read_bytes()[:-32])
    data[12:16] = b"\xff\xff\xff\xff"
    path.write_bytes(data + hashlib.sha256(data).digest())
    assert "4294967295 records" in _load(dirfd)[1][0]


def test_oversized_file_is_not_read(dirfd: int, tmp_path: Path) -> None:
    with (tmp_path / CACHE_NAME).open("wb") as file:
        file.truncate(1 << 40)
    assert "more than" in _load(dirfd)[1][0]


def test_in_a_directory_that_others_write_to_it_is_neither_believed_nor_written(
    dirfd: int, tmp_path: Path
) -> None:
    """They could give its name to an object with content of their choosing that belongs to this user."""
    _save(dirfd, _record(1))
    tmp_path.chmod(0o770)
    records, messages = _load(dirfd)
    assert records == {}
    assert "write permission" in messages[0]
    (tmp_path / CACHE_NAME).unlink()
    cache = FileCache(dirfd, ALGORITHM)
    cache.absorb(_record(1))
    assert not cache.save()
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("kind", ["fifo", "symlink", "directory", "second name"])
def test_what_is_no_file_is_not_opened(dirfd: int, tmp_path: Path, kind: str) -> None:
    path = tmp_path / CACHE_NAME
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/etc/passwd")
    elif kind == "second name":
        _save(dirfd, _record(1))
        os.link(path, tmp_path / "second")
    else:
        path.mkdir()
    records, messages = _load(dirfd)
    assert records == {}
    assert len(messages) == 1


def test_failure_to_write_is_a_message(dirfd: int, tmp_path: Path) -> None:
    (tmp_path / CACHE_NAME).mkdir()
    events: list[Event] = []
    failing = FileCache(dirfd, ALGORITHM)
    failing.absorb(_record(1))
    assert not failing.save(reporter=events.append)
    assert len(events) == 1
    assert "the scan cache was not written" in str(events[0])
    assert os.listdir(tmp_path) == [CACHE_NAME]
