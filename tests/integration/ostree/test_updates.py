"""An update takes what it can from what is here, and comes to the same as a pull into an empty store."""

from __future__ import annotations

import stat
from collections import Counter
from random import Random
from typing import TYPE_CHECKING, Final

import pytest

from cfsctl.ostree.objects import Dirmeta, ObjectKind, format_dirmeta, format_dirtree
from cfsctl.ostree.pull import preparation
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.opened_streams import OpenedStreams
from cfsctl.ostree.store.refs import open_commit
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Xattrs
    from cfsctl.ostree.pull.pull import PullResult
    from cfsctl.progress import Event

OPTIONS: Final = PullOptions(workers=0)
ATTRIBUTES: Final[tuple[Xattrs, ...]] = ((), ((b"user.a\0", b"1"),), ((b"security.selinux\0", b"x_t\0"),))


@pytest.fixture(autouse=True)
def _prepares_always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also make nodes early of bases that are not worth it, some at a time."""
    monkeypatch.setattr(preparation, "_WORTH_IT", 1)
    monkeypatch.setattr(preparation, "_STEP", 7)


class Node:
    """A file, a symbolic link or a directory, with what can be changed about each."""

    def __init__(self, random: Random, depth: int) -> None:
        self.kind = random.choice(["dir", "file", "file", "file", "link"]) if depth else "dir"
        self.mode = random.choice([0o644, 0o755, 0o600])
        self.xattrs = random.choice(ATTRIBUTES)
        self.content = random.randbytes(random.choice([0, 5, 64, 65, 300, 5000]))
        self.children: dict[str, Node] = {}
        if self.kind == "dir" and depth < 4:
            for number in range(random.randrange(9 if depth else 14)):
                self.children[f"n{number}"] = Node(random, depth + 1)

    def change(self, random: Random) -> None:
        """Change something here or below: content, mode, attributes, a name, or what is there at all."""
        if self.children and random.random() < 0.8:
            name = random.choice(list(self.children))
            match random.randrange(8):
                case 0:
                    del self.children[name]
                case 1:
                    self.children[f"renamed-{random.randrange(99)}"] = self.children.pop(name)
                case 2:
                    self.children[f"linked-{random.randrange(99)}"] = self.children[name]
                case 3:
                    self.children[f"new-{random.randrange(99)}"] = Node(random, 3)
                case _:
                    self.children[name].change(random)
        elif random.random() < 0.5:
            self.mode ^= 0o011
        elif random.random() < 0.5:
            self.xattrs = random.choice(ATTRIBUTES)
        else:
            self.content = random.randbytes(random.choice([0, 7, 200]))

    def add_to(self, fake: FakeOstreeRepository) -> tuple[Checksum, Checksum]:
        """Add the objects of a directory; return its dirtree and dirmeta."""
        files: list[tuple[bytes, Checksum]] = []
        dirs: list[tuple[bytes, Checksum, Checksum]] = []
        for name, child in sorted(self.children.items()):
            if child.kind == "dir":
                dirs.append((name.encode(), *child.add_to(fake)))
            elif child.kind == "link":
                files.append((name.encode(), fake.add_symlink(f"target-{child.mode:o}")))
            else:
                files.append((name.encode(), fake.add_file(child.content, child.mode, xattrs=child.xattrs)))
        meta = Dirmeta(0, 0, stat.S_IFDIR | self.mode | 0o111, self.xattrs)
        dirtree = fake.add_metadata(ObjectKind.DIRTREE, format_dirtree(files, dirs))
        return dirtree, fake.add_metadata(ObjectKind.DIRMETA, format_dirmeta(meta))


def make_commits(seed: int) -> FakeOstreeRepository:
    """Return a repository with a commit, and one that differs from it in a few things."""
    random = Random(seed)
    fake = FakeOstreeRepository()
    root = Node(random, 0)
    fake.commit(root.add_to(fake), "old")
    for _ in range(random.randrange(1, 6)):
        root.change(random)
    fake.commit(root.add_to(fake), "new", timestamp_s=1_600_000_001)
    return fake


def run(path: Path, fake: FakeOstreeRepository, ref: str, base: str | None = None) -> PullResult:
    """Pull in a process that knows nothing, when everything has been left alone for a while."""
    events: list[Event] = []
    with Repository.open(str(path)) as repository:
        now = repository.verified._now_ns
        repository.verified._now_ns = lambda: now() + 10**10
        options = PullOptions(workers=0, base_name=base)
        return pull(repository, fake, ref, options, events.append)


def make_store(path: Path) -> Path:
    make_repository(path).close()
    return path


def damage(path: Path, fake: FakeOstreeRepository, random: Random) -> int:
    """Damage some contents of the old commit; return how many."""
    with Repository.open(str(path)) as repository:
        refs = sorted(set(open_commit(repository, fake.refs["old"]).object_refs))
        chosen = random.sample(refs, min(len(refs), 3))
        for number, object_id in enumerate(chosen):
            file = object_file(repository, object_id)
            if number % 2:
                file.unlink()
            else:
                flip_bit(file, 0)
    return len(chosen)


@pytest.mark.parametrize("state", ["whole", "damaged"])
@pytest.mark.parametrize("seed", range(6))
def test_update_comes_to_the_same_as_a_first_pull(tmp_path: Path, seed: int, state: str) -> None:
    fake = make_commits(seed)
    updated, fresh = make_store(tmp_path / "updated"), make_store(tmp_path / "fresh")
    run(updated, fake, "old")
    run(updated, fake, "old")  # what was too young to be noted is noted now
    if state == "damaged":
        damage(updated, fake, Random(seed))
    fake.asked.clear()
    result = run(updated, fake, "new", "old")
    asked = fake.asked.copy()
    expected = run(fresh, fake, "new")
    assert (result.stream_id, result.image_id) == (expected.stream_id, expected.image_id)
    assert max(asked.values(), default=0) <= 1
    if state == "whole":
        with Repository.open(str(updated)) as repository:
            old, new = (set(open_commit(repository, fake.refs[ref])) for ref in ("old", "new"))
            assert {name for name, _ in asked} <= new - old
    with Repository.open(str(fresh)) as repository:
        assert not check_repository(repository, deep=True).findings
    run(updated, fake, "old")
    with Repository.open(str(updated)) as repository:
        assert not check_repository(repository, deep=True).findings


def test_refs_that_share_most_fetch_nothing_and_decode_nothing_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twenty refs of one server that have nine tenths in common, pulled in one run."""
    fake = FakeOstreeRepository()
    shared = {f"d{one}": {f"f{two}": b"%d %d " % (one, two) * 30 for two in range(6)} for one in range(6)}
    refs = [f"os/{number}" for number in range(20)]
    for number, ref in enumerate(refs):
        own = {f"own{one}": b"%d %d " % (number, one) * 40 for one in range(4)}
        fake.commit({**shared, "own": own}, ref, timestamp_s=1_600_000_000 + number)
    decoded: Counter[Checksum] = Counter()
    real = CommitStream.__init__

    def count(stream: CommitStream, *arguments: object, **more: object) -> None:
        real(stream, *arguments, **more)  # type: ignore[arg-type]  # passed on as given
        decoded[stream.checksum] += 1

    monkeypatch.setattr(CommitStream, "__init__", count)
    pulled: list[Checksum] = []
    streams = OpenedStreams()
    with make_repository(tmp_path / "store") as repository:
        for ref in refs:
            options = PullOptions(workers=0, also_bases=tuple(pulled[-8:]))
            pulled.append(pull(repository, fake, ref, options, streams=streams).commit)
    assert set(fake.asked.values()) == {1}
    assert set(fake.asked) == set(fake.objects)
    assert set(decoded.values()) == {1}


def test_named_base_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is also the commit that the tag names, and the parent."""
    fake = FakeOstreeRepository()
    old = fake.commit({"a": b"a" * 100}, "main")
    path = make_store(tmp_path / "store")
    run(path, fake, "main")
    fake.commit({"a": b"a" * 100, "b": b"b" * 100}, "main", parent=old, timestamp_s=1_600_000_001)
    decoded: list[Checksum] = []
    real = CommitStream.__init__

    def count(stream: CommitStream, *arguments: object, **more: object) -> None:
        real(stream, *arguments, **more)  # type: ignore[arg-type]  # passed on as given
        decoded.append(stream.checksum)

    monkeypatch.setattr(CommitStream, "__init__", count)
    run(path, fake, "main", "main")
    assert decoded == [old]
