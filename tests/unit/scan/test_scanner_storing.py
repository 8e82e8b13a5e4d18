"""Content goes into a store once, and what the store refuses is told from what cannot be read."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.repository.objects.store import ObjectStore, ObjectWriter
from cfsctl.scan import StoringError, scan_directory
from tests.support.repositories import make_repository
from tests.support.scans import describe_directory, describe_tree

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

CONTENTS = [os.urandom(size) for size in (65, 5000, 5001, 200_000, (1 << 20) + 1, 2 << 20)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Files of many sizes, all of them twice."""
    root = tmp_path / "tree"
    for directory in ("a", "b"):
        (root / directory).mkdir(parents=True)
        for index, data in enumerate(CONTENTS):
            (root / directory / f"file{index}").write_bytes(data)
    (root / "inline").write_bytes(bytes(64))
    return root


def _scan(root: Path, repository: Repository, workers: int = 0) -> FileSystem:
    return scan_directory(
        os.fspath(root), algorithm=Algorithm.SHA512, store=repository.objects, workers=workers
    )


@pytest.mark.parametrize("workers", [0, 2])
def test_every_content_is_stored_once(tree: Path, tmp_path: Path, workers: int) -> None:
    with make_repository(tmp_path / "repo") as repository:
        found = describe_tree(_scan(tree, repository, workers))
        assert found == describe_directory(tree, Algorithm.SHA512)
        stored = {file: file.read_bytes() for file in (tmp_path / "repo" / "objects").glob("*/*")}
        assert sorted(stored.values()) == sorted(CONTENTS)
        for file, data in stored.items():
            assert file.parent.name + file.name == compute_digest(data, Algorithm.SHA512).hex()


def test_known_content_is_not_written_again(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with make_repository(tmp_path / "repo") as repository:
        first = describe_tree(_scan(tree, repository))
        monkeypatch.setattr(ObjectStore, "create", None)
        monkeypatch.setattr(ObjectStore, "_publish", None)
        assert describe_tree(_scan(tree, repository)) == first


@pytest.mark.parametrize("part", ["_publish", "create", "write", "commit"])
def test_refusal_of_the_store_names_the_file(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, part: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), ".tmp-object-x")

    owner = ObjectStore if part in {"_publish", "create"} else ObjectWriter
    monkeypatch.setattr(owner, part, refuse)
    with make_repository(tmp_path / "repo") as repository, pytest.raises(StoringError) as caught:
        _scan(tree, repository)
    assert caught.value.errno == errno.ENOSPC
    assert caught.value.strerror == "No space left on device (storing its content)"
    assert os.path.exists(caught.value.filename)
    assert list((tmp_path / "repo").glob("objects/.tmp*")) == []


def test_source_that_cannot_be_read_is_no_matter_of_the_store(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "preadv", fail)
    with (
        make_repository(tmp_path / "repo") as repository,
        pytest.raises(OSError, match="Input/output") as caught,
    ):
        _scan(tree, repository)
    assert not isinstance(caught.value, StoringError)
    assert os.path.exists(caught.value.filename)


def test_digest_comes_first_once_content_is_known(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copied: list[int] = []
    real = ObjectWriter.commit

    def count(self: ObjectWriter) -> object:
        copied.append(self.size)
        return real(self)

    monkeypatch.setattr(ObjectWriter, "commit", count)
    with make_repository(tmp_path / "repo") as repository:
        _scan(tree, repository)
        # All were new at first, so the large ones were copied without another look.
        assert sorted(copied) == sorted(len(data) for data in CONTENTS[-2:] * 2)
