"""A ref that is new to the store takes what other refs have brought."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.pull.similar_commits import find_similar
from cfsctl.ostree.store.commit_stream import has_object
from cfsctl.ostree.store.refs import open_commit, stream_name
from cfsctl.splitstream.format import ContentType
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.repositories import make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.ostree.pull.pull import PullResult
    from cfsctl.repository import Repository

OPTIONS = PullOptions(workers=0)
TREE: Tree = {"usr": {f"file{n}": b"%d" % n * 200 for n in range(20)}, "etc": {"small": b"s"}}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "r") as made:
        yield made


def fetch(repository: Repository, fake: FakeOstreeRepository, ref: str) -> PullResult:
    return pull(repository, fake, ref, OPTIONS)


@pytest.mark.parametrize("ref", ["os/testing", "unrelated"])
def test_identical_tree_fetches_nothing_but_the_commit(repository: Repository, ref: str) -> None:
    fake = FakeOstreeRepository()
    fake.commit(TREE, "os/stable")
    fake.commit(TREE, ref, timestamp_s=1_600_000_001)
    fetch(repository, fake, "os/stable")
    second = fetch(repository, fake, ref)
    assert (second.metadata_fetched, second.files_fetched) == (1, 0)
    assert fetch(repository, fake, ref).metadata_fetched == 0


def test_similar_name_is_a_base(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    fake.commit(TREE, "debian/12/minimal")
    fake.commit({**TREE, "new": b"new" * 100}, "debian/13/minimal")
    fetch(repository, fake, "debian/12/minimal")
    result = fetch(repository, fake, "debian/13/minimal")
    assert (result.metadata_fetched, result.files_fetched) == (2, 1)  # commit and root; the new file


def test_most_similar_names_come_last(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    for number, ref in enumerate(("a/x/1", "a/y/2", "b/y/2", "c/z/3")):
        fake.commit({**TREE, "number": b"%d" % number}, ref)
        fetch(repository, fake, ref)
    new = fake.commit({"other": b"tree"}, "b/y/3")
    fetch(repository, fake, "b/y/3")
    commit = open_commit(repository, new).commit
    found = find_similar(repository, commit, new, "b/y/3")
    assert found[-1] == fake.refs["b/y/2"]
    assert find_similar(repository, commit, new, "nothing") == []
    assert find_similar(repository, commit, new, None) == []


def test_damaged_or_missing_streams_are_passed_over(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    first = fake.commit(TREE, "os/a")
    fake.commit({**TREE, "b": b"b" * 100}, "os/b")
    for ref in ("os/a", "os/b"):
        fetch(repository, fake, ref)
    object_id = repository.streams.find(stream_name(first))
    assert object_id is not None
    os.truncate(object_file(repository, object_id), 100)
    fake.commit({**TREE, "c": b"c" * 100}, "os/c")
    result = fetch(repository, fake, "os/c")
    assert result.files_fetched == 1


def test_objects_of_a_table(repository: Repository) -> None:
    fake = FakeOstreeRepository()
    commit = fake.commit(TREE, "main")
    fetch(repository, fake, "main")
    stream = open_commit(repository, commit)
    assert stream.object_id is not None

    def has(checksum: Checksum) -> bool:
        assert stream.object_id is not None
        with repository.streams.open_object(stream.object_id, ContentType.OSTREE_COMMIT) as reader:
            return has_object(reader, checksum)

    assert all(map(has, stream))
    for byte in range(0, 256, 5):
        assert not has(Checksum(bytes([byte]) + os.urandom(31)))
