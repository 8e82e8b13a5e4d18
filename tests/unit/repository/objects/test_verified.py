"""The list of verified objects: what counts as the same state, and what list is believed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, cast

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.repository.objects import verified as module
from cfsctl.repository.objects.reader import to_doubtful
from cfsctl.repository.objects.verified import (
    VERIFIED_NAME,
    CachedCheck,
    VerifiedListError,
    VerifiedObjects,
    _format,
    _parse,
    mark_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ID = ObjectID(bytes(range(32)))
SECOND = 10**9


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path, os.O_RDONLY)
    yield fd
    os.close(fd)


@pytest.fixture
def status(tmp_path: Path) -> os.stat_result:
    (tmp_path / "file").write_bytes(b"x")
    return (tmp_path / "file").stat()


def open_list(root: int, ahead_ns: int = 10 * SECOND) -> VerifiedObjects:
    verified = VerifiedObjects(root, Algorithm.SHA256)
    now = verified._now_ns
    verified._now_ns = lambda: now() + ahead_ns
    return verified


def test_confirmed_objects_are_known_to_the_next_process(root: int, status: os.stat_result) -> None:
    first = open_list(root)
    assert first.needs_reading(ID, status)
    first.confirm(ID, status)
    assert not first.needs_reading(ID, status)
    first.save()
    assert not open_list(root).needs_reading(ID, status)
    assert not first.has_news


class State(NamedTuple):
    """What counts of a file's status."""

    st_ino: int = 5
    st_size: int = 100
    st_mtime_ns: int = SECOND + 1
    st_ctime_ns: int = SECOND + 2

    def as_status(self) -> os.stat_result:
        return cast("os.stat_result", self)


@pytest.mark.parametrize("name", State._fields)
def test_another_state_is_another_mark(name: str) -> None:
    one = State()
    for step in (1, -1, 4096, 1 << 32):
        other = one._replace(**{name: getattr(one, name) + step})
        assert mark_of(ID, one.as_status()) != mark_of(ID, other.as_status())
    assert mark_of(ID, one.as_status()) != mark_of(ObjectID(bytes(32)), one.as_status())
    assert 0 <= mark_of(ID, State(-1, -1, -1, -1).as_status()) < 1 << 64


def test_every_kind_of_change_is_seen(root: int, tmp_path: Path) -> None:
    path = tmp_path / "object"
    path.write_bytes(b"content")
    verified = open_list(root)

    def alter() -> None:
        path.write_bytes(b"altered")

    def alter_in_place() -> None:
        before = path.stat()
        with path.open("r+b") as stream:
            stream.write(b"C")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))

    def replace() -> None:
        path.rename(tmp_path / "old")
        path.write_bytes(b"content")

    for change in (alter, alter_in_place, replace, lambda: path.chmod(0o600)):
        status = path.stat()
        assert verified.needs_reading(ID, status)
        verified.confirm(ID, status)
        assert not verified.needs_reading(ID, path.stat())
        while path.stat().st_ctime_ns == status.st_ctime_ns:  # until the kernel's clock has ticked
            change()
        assert verified.needs_reading(ID, path.stat())


def test_what_has_just_been_changed_is_not_noted(root: int, status: os.stat_result) -> None:
    """A change within the same tick of the clock would leave the same state."""
    verified = VerifiedObjects(root, Algorithm.SHA256)
    verified._now_ns = lambda: status.st_ctime_ns + SECOND // 20
    verified.needs_reading(ID, status)
    verified.confirm(ID, status)
    assert verified.needs_reading(ID, status)
    verified._now_ns = lambda: status.st_ctime_ns - SECOND
    verified.confirm(ID, status)
    assert not verified.has_news


def test_news_of_a_worker_are_saved_by_its_parent(root: int, status: os.stat_result) -> None:
    parent, worker = open_list(root), open_list(root)
    for verified in (parent, worker):
        verified.needs_reading(ID, status)
    worker.confirm(ID, status)
    news = worker.drain_new()
    assert len(news) == 1
    assert not worker.has_news
    assert not worker.drain_new()
    assert parent.needs_reading(ID, status)
    parent.add_new(news)
    assert not parent.needs_reading(ID, status)
    parent.save()
    assert not open_list(root).needs_reading(ID, status)


def test_fact_about_an_object_is_known_until_its_file_is_touched(root: int, status: os.stat_result) -> None:
    verified = open_list(root)
    fact = CachedCheck(verified, b"it is so", status)
    assert not fact.is_known
    fact.record()
    assert CachedCheck(verified, b"it is so", status).is_known
    assert not CachedCheck(verified, b"it is otherwise", status).is_known
    assert not CachedCheck(
        verified, b"it is so", State(st_ctime_ns=status.st_ctime_ns + 1).as_status()
    ).is_known
    missing = CachedCheck(verified, b"of nothing", None)
    missing.record()
    assert not missing.is_known


def test_whole_seconds_take_longer(root: int) -> None:
    status = State(st_ctime_ns=1000 * SECOND).as_status()
    verified = VerifiedObjects(root, Algorithm.SHA256)
    for ahead_ns, is_noted in ((SECOND, False), (3 * SECOND, True)):
        now_ns = 1000 * SECOND + ahead_ns
        verified._now_ns = lambda now_ns=now_ns: now_ns  # type: ignore[misc]  # binds the value of this round
        verified.needs_reading(ID, status)
        verified.confirm(ID, status)
        assert verified.has_news is is_noted


@pytest.mark.parametrize("asks_for_many", [False, True])
def test_few_and_many_are_found_alike(
    root: int, monkeypatch: pytest.MonkeyPatch, *, asks_for_many: bool
) -> None:
    states = [State(st_ino=number).as_status() for number in range(50)]
    writer = open_list(root)
    for state in states[::2]:
        writer.note(ID, state)
    writer.save()
    monkeypatch.setattr(module, "_FEW", 10 if asks_for_many else 1000)
    expected = [100, to_doubtful(100)] * 25
    reader = open_list(root)
    assert list(reader.find_sizes((ID, state) for state in states)) == expected
    assert [reader.needs_reading(ID, state) for state in states] == [False, True] * 25
    assert list(reader.find_sizes([(ID, None), (ID, states[0])])) == [-1, 100]
    one_by_one = open_list(root)
    assert [one_by_one.needs_reading(ID, state) for state in states] == [False, True] * 25
    assert not one_by_one.has_news
    one_by_one.note(ID, states[1])
    one_by_one.save()
    prepared = open_list(root)
    assert not prepared.find_sizes(())
    assert list(prepared.find_sizes((ID, state) for state in states)) == [100, 100, *expected[2:]]


def test_damaged_lists() -> None:
    data = _format({1, 2**64 - 1, 77}, Algorithm.SHA256)
    assert list(_parse(data, Algorithm.SHA256)) == [1, 77, 2**64 - 1]
    for end in range(len(data)):
        with pytest.raises(VerifiedListError):
            _parse(data[:end], Algorithm.SHA256)
    for place in range(len(data)):
        broken = bytearray(data)
        broken[place] ^= 1
        with pytest.raises(VerifiedListError):
            _parse(bytes(broken), Algorithm.SHA256)
    for other in (data + bytes(8), b""):
        with pytest.raises(VerifiedListError):
            _parse(other, Algorithm.SHA256)
    with pytest.raises(VerifiedListError):
        _parse(data, Algorithm.SHA512)


@pytest.mark.parametrize(
    "kind",
    ["damaged", "link", "fifo", "directory", "writable for others", "second name", "in a shared directory"],
)
def test_lists_that_are_not_believed(root: int, tmp_path: Path, status: os.stat_result, kind: str) -> None:
    verified = open_list(root)
    verified.needs_reading(ID, status)
    verified.confirm(ID, status)
    verified.save()
    path = tmp_path / VERIFIED_NAME
    match kind:
        case "damaged":
            path.write_bytes(path.read_bytes()[:-1])
        case "link":
            path.rename(tmp_path / "list")
            path.symlink_to("list")
        case "fifo":
            path.unlink()
            os.mkfifo(path)
        case "directory":
            path.unlink()
            path.mkdir()
        case "second name":
            os.link(path, tmp_path / "second")
        case "in a shared directory":
            tmp_path.chmod(0o777)
        case _:
            path.chmod(0o666)
    again = open_list(root)
    assert again.needs_reading(ID, status)
    again.confirm(ID, status)
    again.save()
    assert open_list(root).needs_reading(ID, status) is (kind in {"directory", "in a shared directory"})
