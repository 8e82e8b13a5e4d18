"""An image that is made again heals the objects of its files, and reads none without need."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from cfsctl.fsverity.merkle import compute_file_digest
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.scan import build_images, scan_directory
from cfsctl.tree.model import ExternalFile
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import Algorithm, ObjectID

FILES = 20


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "tree").mkdir()
    for number in range(FILES):
        (tmp_path / "tree" / f"file{number}").write_bytes(f"file {number} ".encode() * 100)
    return tmp_path / "tree"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_repository(tmp_path / "store").close()
    return tmp_path / "store"


def build(path: Path, tree: Path) -> tuple[Path, Path]:
    """Make the image, when everything in the store has been left alone; return two of its objects' files."""
    with Repository.open(str(path)) as repository:
        now = repository.verified._now_ns
        repository.verified._now_ns = lambda: now() + 10**10
        filesystem = scan_directory(
            str(tree), algorithm=repository.algorithm, store=repository.objects, workers=0
        )
        image_id = build_images(repository, filesystem, "im")
        file = filesystem.root.entries[b"file3"]
        assert isinstance(file, ExternalFile)
        return object_file(repository, image_id), object_file(repository, file.object_id)


def test_damaged_objects_are_replaced(path: Path, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    def count(fd: int, algorithm: Algorithm) -> tuple[ObjectID, int]:
        reads.append(fd)
        return compute_file_digest(fd, algorithm)

    monkeypatch.setattr("cfsctl.repository.objects.reader.compute_file_digest", count)
    files = build(path, tree)
    reads.clear()
    assert build(path, tree) == files
    assert reads == []
    contents = [file.read_bytes() for file in files]
    for file in files:
        flip_bit(file, 100)
    assert build(path, tree) == files
    assert [file.read_bytes() for file in files] == contents
    assert len(reads) == 2
    with Repository.open(str(path)) as repository:
        assert check_repository(repository, deep=True).findings == []
