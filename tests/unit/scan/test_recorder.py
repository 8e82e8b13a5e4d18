"""When a file may be recorded."""

from __future__ import annotations

import mmap
import os
import time
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.linux.syscalls import file_system_type
from cfsctl.scan import FileCache, StaleCacheError, recorder
from cfsctl.scan.cache import IS_PLAIN, STATE
from cfsctl.scan.files import State, file_state
from cfsctl.scan.recorder import Recorder

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ALGORITHM = Algorithm.SHA256
OBJECT_ID = ObjectID(bytes(range(32)))
SECOND = 10**9


@pytest.fixture
def cache(tmp_path: Path) -> Iterator[FileCache]:
    if not _is_trusted(tmp_path):
        pytest.skip("the temporary directory's file system is none that the cache relies on")
    fd = os.open(tmp_path, os.O_RDONLY)
    yield FileCache(fd, ALGORITHM)
    os.close(fd)


def _is_trusted(path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return file_system_type(fd) in recorder._TRUSTED_TYPES
    finally:
        os.close(fd)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(bytes(4096))
    return path


def _may_record(cache: FileCache, path: Path) -> bool:
    fd = os.open(path, os.O_RDONLY)
    try:
        return Recorder(cache).may_record(fd, file_state(os.fstat(fd)))
    finally:
        os.close(fd)


def _pass_time(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() + int(seconds * SECOND))


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0, False), (1.5, False), (3, True), (100, True), (-1, False), (-100, False)]
)
def test_file_must_have_been_left_alone(
    cache: FileCache, file: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, *, expected: bool
) -> None:
    _pass_time(monkeypatch, seconds)
    assert _may_record(cache, file) is expected


@pytest.mark.parametrize("seconds", [3, 100, 10_000])
@pytest.mark.parametrize("is_mapped", [True, False])
def test_file_that_is_open_for_writing_is_not_recorded(
    cache: FileCache, file: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, *, is_mapped: bool
) -> None:
    _pass_time(monkeypatch, seconds)
    with file.open("r+b") as writer:
        mapping = mmap.mmap(writer.fileno(), 4096)
        if not is_mapped:
            mapping.close()
            assert not _may_record(cache, file)
    # The mapping alone counts as well, when no descriptor is left.
    if is_mapped:
        assert not _may_record(cache, file)
        mapping.close()
    assert _may_record(cache, file)


@pytest.mark.parametrize(("seconds", "expected"), [(3, False), (3500, False), (3700, True)])
def test_file_must_be_old_where_writers_are_not_known(
    cache: FileCache, file: Path, monkeypatch: pytest.MonkeyPatch, seconds: float, *, expected: bool
) -> None:
    _pass_time(monkeypatch, seconds)
    monkeypatch.setattr(recorder, "is_open_for_writing", lambda _: None)
    assert _may_record(cache, file) is expected


def test_time_that_a_program_made_up_is_not_relied_on(
    cache: FileCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _pass_time(monkeypatch, 100)
    with file.open("rb") as stream:
        device, inode, size, mtime_ns, ctime_ns = file_state(os.fstat(stream.fileno()))
        whole = ctime_ns // SECOND * SECOND
        for ctime, expected in ((whole, False), (whole + 1, True)):
            state = (device, inode, size, mtime_ns, ctime)
            assert Recorder(cache).may_record(stream.fileno(), state) is expected


@pytest.mark.parametrize("kind", [0x01021994, 0xE0F5E1E2], ids=["tmpfs", "erofs"])
def test_other_file_systems_are_not_relied_on(
    cache: FileCache, file: Path, monkeypatch: pytest.MonkeyPatch, kind: int
) -> None:
    _pass_time(monkeypatch, 100)
    monkeypatch.setattr(recorder, "file_system_type", lambda _: kind)
    assert not _may_record(cache, file)


def test_what_is_recorded_is_found(cache: FileCache) -> None:
    state: State = (1, 2, 3, -4, 5)
    worker = Recorder(cache)
    worker.record(state, OBJECT_ID, is_plain=True)
    worker.record((1, 2, 3, -4, 6), OBJECT_ID, is_plain=False)
    news = worker.drain_new()
    assert worker.drain_new() == b""
    cache.absorb(news)
    assert cache.save()
    later = Recorder(FileCache.load(cache._dirfd, ALGORITHM))
    assert later.find(state) == (OBJECT_ID, True)
    assert later.find((1, 2, 3, -4, 6)) == (OBJECT_ID, False)
    for index in range(5):
        other = list(state)
        other[index] += 10
        assert later.find((other[0], other[1], other[2], other[3], other[4])) is None
    assert later.drain_new() == b""


def test_old_record_is_made_again_when_it_is_used(cache: FileCache) -> None:
    state: State = (1, 2, 3, 4, 5)
    old = Recorder(cache)
    old.record(state, OBJECT_ID, is_plain=True)
    cache.absorb(old.drain_new())
    assert cache.save()
    later = FileCache.load(cache._dirfd, ALGORITHM)
    later.today += 8
    worker = Recorder(later)
    assert worker.find(state) == (OBJECT_ID, True)
    later.absorb(worker.drain_new())
    assert later.save()
    (value,) = FileCache.load(cache._dirfd, ALGORITHM).records.values()
    assert int.from_bytes(value[1:3], "little") == later.today
    assert value[0] & IS_PLAIN


def test_times_that_do_not_fit_are_not_recorded(cache: FileCache) -> None:
    worker = Recorder(cache)
    worker.record((1, 2, 3, 2**63, 5), OBJECT_ID, is_plain=True)
    assert worker.drain_new() == b""
    assert worker.find((1, 2, 3, 2**63, 5)) is None


def test_verifying_finds_nothing_and_compares(cache: FileCache) -> None:
    state: State = (1, 2, 3, 4, 5)
    cache.records = {STATE.pack(*state): b"\0\0\0" + OBJECT_ID}
    assert Recorder(cache).find(state) == (OBJECT_ID, False)
    cache.verify = True
    worker = Recorder(cache)
    assert worker.find(state) is None
    worker.check(state, OBJECT_ID, b"path")
    worker.check((9, 9, 9, 9, 9), ObjectID(bytes(32)), b"path")
    with pytest.raises(StaleCacheError, match=r"a/path: the scan cache says 0001.*the digest 0000"):
        worker.check(state, ObjectID(bytes(32)), b"a/path")
