"""A changed file is never taken for an unchanged one.

Real files are changed in every way that tries to look like no change, and each scan with the cache is
compared with one that reads everything.
"""

from __future__ import annotations

import mmap
import os
import random
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.scan import FileCache, StaleCacheError, files, recorder, scan_directory, walker
from tests.support.repositories import make_repository
from tests.support.scans import describe_directory, describe_tree
from tests.unit.scan.test_recorder import _is_trusted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cfsctl.repository import Repository
    from tests.support.scans import Description

SIZE = 5000


class _Site:
    """A tree, a repository, and a clock for recording that runs ahead of the one that stamps files."""

    def __init__(self, tree: Path, repository: Repository, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tree = tree
        self.repository = repository
        self.ahead_s = 10.0
        self.reads: list[bytes] = []
        real_time = time.time_ns
        clock = SimpleNamespace(time_ns=lambda: real_time() + int(self.ahead_s * 1e9))
        monkeypatch.setattr(recorder, "time", clock)

        def note(real: Callable[..., object]) -> Callable[..., object]:
            def noted(reader: files.ContentReader, fd: int, state: files.State, path: bytes) -> object:
                self.reads.append(path)
                return real(reader, fd, state, path)

            return noted

        for name in ("read", "take"):
            monkeypatch.setattr(files.ContentReader, name, note(getattr(files.ContentReader, name)))

    def scan(self, *, verify: bool = False) -> Description:
        """Scan as create-image does, but in this process and without a barrier; keep what is learnt."""
        self.reads.clear()
        cache = FileCache.load(self.repository.dirfd, self.repository.algorithm, verify=verify)
        filesystem = scan_directory(
            os.fspath(self.tree),
            algorithm=self.repository.algorithm,
            store=self.repository.objects,
            workers=0,
            cache=cache,
        )
        cache.save()
        return describe_tree(filesystem)

    def look(self) -> Description:
        """Read everything."""
        return describe_directory(self.tree, self.repository.algorithm)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Site]:
    if not _is_trusted(tmp_path):
        pytest.skip("the temporary directory's file system is none that the cache relies on")
    tree = tmp_path / "tree"
    tree.mkdir()
    for name in ("a", "b"):
        (tree / name).write_bytes(os.urandom(SIZE))
    (tree / "large").write_bytes(os.urandom(2 << 20))
    os.link(tree / "a", tree / "link-of-a")
    with make_repository(tmp_path / "repo") as repository:
        yield _Site(tree, repository, monkeypatch)


def test_second_scan_reads_nothing(site: _Site) -> None:
    first = site.scan()
    assert sorted(site.reads) in ([b"a", b"b", b"large"], [b"b", b"large", b"link-of-a"])
    assert site.scan() == first == site.look()
    assert site.reads == []


def _tick() -> None:
    """Let the clock that stamps files move on."""
    time.sleep(0.02)


def _restore(path: Path, before: os.stat_result) -> None:
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _same_size_and_mtime(tree: Path) -> None:
    before = (tree / "a").stat()
    with (tree / "a").open("r+b") as file:
        file.write(os.urandom(SIZE))
    _restore(tree / "a", before)


def _through_another_name(tree: Path) -> None:
    before = (tree / "a").stat()
    with (tree / "link-of-a").open("r+b") as file:
        file.write(os.urandom(SIZE))
    _restore(tree / "a", before)


def _through_a_mapping(tree: Path) -> None:
    before = (tree / "a").stat()
    with (tree / "a").open("r+b") as file, mmap.mmap(file.fileno(), SIZE) as mapping:
        mapping[:] = os.urandom(SIZE)
    _restore(tree / "a", before)


def _rename_over(tree: Path) -> None:
    before = (tree / "b").stat()
    (tree / "new").write_bytes(os.urandom(SIZE))
    _restore(tree / "new", before)
    (tree / "new").rename(tree / "b")


def _remove_and_create(tree: Path) -> None:
    # Most file systems give the inode to the next file that is made.
    before = (tree / "b").stat()
    (tree / "b").unlink()
    (tree / "b").write_bytes(os.urandom(SIZE))
    _restore(tree / "b", before)


def _swap_names(tree: Path) -> None:
    one, other = (tree / "a").stat(), (tree / "b").stat()
    (tree / "a").rename(tree / "c")
    (tree / "b").rename(tree / "a")
    (tree / "c").rename(tree / "b")
    _restore(tree / "a", one)
    _restore(tree / "b", other)


def _link_in_place(tree: Path) -> None:
    (tree / "b").unlink()
    os.link(tree / "a", tree / "b")


def _truncate_and_grow(tree: Path) -> None:
    before = (tree / "a").stat()
    os.truncate(tree / "a", 0)
    os.truncate(tree / "a", SIZE)
    _restore(tree / "a", before)


def _large_one(tree: Path) -> None:
    before = (tree / "large").stat()
    with (tree / "large").open("r+b") as file:
        file.seek(1 << 20)
        file.write(b"changed")
    _restore(tree / "large", before)


def _attribute(tree: Path) -> None:
    os.setxattr(tree / "a", "user.new", b"value")


def _mode(tree: Path) -> None:
    (tree / "a").chmod(0o600)


def _mtime(tree: Path) -> None:
    os.utime(tree / "b", ns=(1, 2))


CHANGES = [
    _same_size_and_mtime,
    _through_another_name,
    _through_a_mapping,
    _rename_over,
    _remove_and_create,
    _swap_names,
    _link_in_place,
    _truncate_and_grow,
    _large_one,
    _attribute,
    _mode,
    _mtime,
]


@pytest.mark.parametrize("change", CHANGES)
def test_change_is_noticed(site: _Site, change: Callable[[Path], None]) -> None:
    before = site.scan()
    _tick()
    change(site.tree)
    after = site.scan()
    assert after == site.look()
    assert after != before
    assert site.scan() == after
    assert site.reads == []


@pytest.mark.parametrize("change", CHANGES[:3])
def test_change_within_one_tick_of_the_clock_is_noticed(
    site: _Site, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    # Files are scanned the moment they are made and changed the moment they are scanned. Newer kernels
    # notice that somebody looked and stamp more finely then; not so one whose clock ticks once a second.
    def coarse(status: os.stat_result) -> files.State:
        device, inode, size, mtime_ns, ctime_ns = real(status)
        return device, inode, size, mtime_ns, ctime_ns // 10**9 * 10**9 + 1

    real = files.file_state
    monkeypatch.setattr(files, "file_state", coarse)
    monkeypatch.setattr(walker, "file_state", coarse)
    site.ahead_s = 0
    for _ in range(10):
        site.scan()
        change(site.tree)
        assert site.scan() == site.look()


def test_change_after_the_clock_was_set_back_is_noticed(site: _Site, monkeypatch: pytest.MonkeyPatch) -> None:
    site.scan()
    # As far as the scan can tell it is yesterday, and files carry times of tomorrow.
    site.ahead_s = -86_400
    real = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: real() - 86_400 * 10**9)
    _same_size_and_mtime(site.tree)
    assert site.scan() == site.look()
    assert len(site.reads) == 3
    site.scan()
    assert len(site.reads) == 3


def test_writer_that_goes_on_through_its_mapping_is_noticed(site: _Site) -> None:
    with (site.tree / "b").open("r+b") as file:
        mapping = mmap.mmap(file.fileno(), SIZE)
    left_no_trace = False
    try:
        for _ in range(20):
            mapping[:10] = os.urandom(10)
            status = (site.tree / "b").stat()
            site.scan()
            mapping[:10] = os.urandom(10)
            # The page is dirty already, so a change leaves no trace, unless it was just cleaned.
            left_no_trace |= (site.tree / "b").stat().st_ctime_ns == status.st_ctime_ns
            assert site.scan() == site.look()
    finally:
        mapping.close()
    assert left_no_trace


def test_object_that_is_gone_or_short_is_stored_again(site: _Site, tmp_path: Path) -> None:
    first = site.scan()
    objects = sorted((tmp_path / "repo" / "objects").glob("*/*"))
    contents = {path: path.read_bytes() for path in objects}
    objects[0].unlink()
    os.truncate(objects[1], 100)
    assert site.scan() == first
    assert len(site.reads) == 2
    assert {path: path.read_bytes() for path in objects} == contents


def test_verifying_reads_everything_and_finds_what_is_wrong(site: _Site) -> None:
    first = site.scan()
    assert site.scan(verify=True) == first
    assert len(site.reads) == 3
    cache = FileCache.load(site.repository.dirfd, Algorithm.SHA512)
    state, value = next(iter(cache.records.items()))
    cache.absorb(state + value[:-1] + bytes((value[-1] ^ 1,)))
    cache.save()
    with pytest.raises(StaleCacheError, match="the scan cache says"):
        site.scan(verify=True)


@pytest.mark.parametrize("seed", range(6))
def test_any_sequence_of_changes_is_followed(site: _Site, seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        site.ahead_s = rng.choice((0.0, 0.0, 3.0, 100.0))
        if rng.random() < 0.3:
            _tick()
        for change in rng.sample(CHANGES, rng.randrange(3)):
            change(site.tree)
        assert site.scan(verify=rng.random() < 0.1) == site.look()
