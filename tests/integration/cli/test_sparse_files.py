"""Files with holes keep them on every way into a repository, to another, and out again."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_file_digest
from tests.fakes.faulty_server import FaultyServer
from tests.support.programs import CFSCTL, cfsctl

if TYPE_CHECKING:
    from pathlib import Path

MIB = 1 << 20
SIZE = 20 * MIB
DATA = b"data" * 512
PLACES = (5 * MIB, 10 * MIB + 100)
MOST_KIB = 512
"""What a whole repository takes, next to the 20480 KiB of the file."""


def make_sparse(path: Path, size: int = SIZE) -> None:
    with path.open("wb") as file:
        file.truncate(size)
        for place in PLACES:
            os.pwrite(file.fileno(), DATA, place)


def space_kib(path: Path) -> int:
    """Return what everything below a directory takes on the disk."""
    files = {(status := file.lstat()).st_ino: status.st_blocks for file in path.rglob("*")}
    return sum(files.values()) // 2


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    tree = tmp_path / "tree"
    tree.mkdir(mode=0o755)
    make_sparse(tree / "lastlog")
    (tree / "zeros").write_bytes(bytes(MIB))  # not sparse, and small enough to be held in memory
    (tree / "page").write_bytes(bytes(4096))
    if space_kib(tree) > 2 * MOST_KIB + 1024:
        pytest.skip("the file system of the temporary directory has no holes")
    return tree


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return make_store(tmp_path / "store")


def make_store(path: Path) -> Path:
    cfsctl("--repo", path, "init", "--insecure")
    return path


@pytest.fixture
def filled(tree: Path, store: Path) -> Path:
    """Return a repository with an image and a commit of the tree."""
    cfsctl("--repo", store, "create-image", "--no-propagate-usr-to-root", tree, "image")
    cfsctl("--repo", store, "ostree", "commit", "image", "--reference", "main", "--timestamp", "@0")
    return store


def check_objects(store: Path, tree: Path) -> None:
    """Check that the content is all there, and takes no space."""
    assert space_kib(store) < MOST_KIB
    for name in ("lastlog", "zeros", "page"):
        with (tree / name).open("rb") as file:
            digits = compute_file_digest(file.fileno(), Algorithm.SHA512)[0].hex()
        assert (store / "objects" / digits[:2] / digits[2:]).read_bytes() == (tree / name).read_bytes()
    cfsctl("--repo", store, "fsck", "--deep")


def test_images_and_commits(tree: Path, filled: Path) -> None:
    check_objects(filled, tree)


def test_a_second_image_of_known_content(tree: Path, filled: Path) -> None:
    before = space_kib(filled)
    cfsctl("--repo", filled, "create-image", "--no-propagate-usr-to-root", tree, "again")
    assert space_kib(filled) <= before + 16


def test_copies(tree: Path, filled: Path, tmp_path: Path) -> None:
    other = make_store(tmp_path / "other")
    cfsctl("--repo", filled, "copy", "main", other)
    check_objects(other, tree)


def test_copies_to_another_hash(filled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    cfsctl("--repo", other, "init", "--insecure", "--algorithm", "fsverity-sha256-12")
    cfsctl("--repo", filled, "copy", "image", other)
    assert space_kib(other) < MOST_KIB


def test_repair(tree: Path, filled: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(filled, other, symlinks=True)
    with (tree / "lastlog").open("rb") as file:
        digits = compute_file_digest(file.fileno(), Algorithm.SHA512)[0].hex()
    (filled / "objects" / digits[:2] / digits[2:]).unlink()
    shutil.rmtree(filled / "objects" / "__gone", ignore_errors=True)
    cfsctl("--repo", filled, "fsck", "--repair", "--from", other)
    check_objects(filled, tree)
    (filled / "objects" / digits[:2] / digits[2:]).unlink()
    cfsctl("--repo", filled, "fsck", "--repair", "--from", tree)
    check_objects(filled, tree)


def export(filled: Path, target: Path, mode: str) -> Path:
    for directory in (
        "objects",
        "refs/heads",
        "refs/remotes",
        "refs/mirrors",
        "state",
        "tmp/cache",
        "extensions",
    ):
        (target / directory).mkdir(parents=True)
    (target / "config").write_text(f"[core]\nrepo_version=1\nmode={mode}\n")
    cfsctl("--repo", filled, "ostree", "export", "main", target, "--reference", "main")
    return target


@pytest.mark.parametrize("mode", ["archive-z2", "bare-user", "bare-user-only"])
def test_out_to_ostree_and_in_again(tree: Path, filled: Path, tmp_path: Path, mode: str) -> None:
    served = export(filled, tmp_path / "ostree", mode)
    assert space_kib(served) < MOST_KIB
    back = make_store(tmp_path / "back")
    cfsctl("--repo", back, "ostree", "pull-local", served, "main")
    check_objects(back, tree)


def test_over_http(tree: Path, filled: Path, tmp_path: Path) -> None:
    served = export(filled, tmp_path / "ostree", "archive-z2")
    back = make_store(tmp_path / "back")
    with FaultyServer(served) as server:
        cfsctl("--repo", back, "ostree", "pull", server.url, "main")
    check_objects(back, tree)


def test_the_directory_of_mkcomposefs(tree: Path, tmp_path: Path) -> None:
    digests = tmp_path / "digests"
    cfsctl_as = tmp_path / "mkcomposefs"
    cfsctl_as.symlink_to(CFSCTL)
    status = os.spawnv(
        os.P_WAIT,
        CFSCTL.parent / "mkcomposefs",
        ["mkcomposefs", f"--digest-store={digests}", str(tree), str(tmp_path / "image")],
    )
    assert status == 0
    assert space_kib(digests) < MOST_KIB
    with (tree / "lastlog").open("rb") as file:
        digits = compute_file_digest(file.fileno(), Algorithm.SHA256)[0].hex()
    assert (digests / digits[:2] / digits[2:]).read_bytes() == (tree / "lastlog").read_bytes()


@pytest.mark.parametrize("verb", ["compute-id", "create-image"])
def test_a_terabyte_of_nothing(store: Path, tmp_path: Path, verb: str) -> None:
    """Would take hours if it were read."""
    tree = tmp_path / "large"
    tree.mkdir()
    try:
        make_sparse(tree / "disk", (1 << 40) + 5)
    except OSError as error:
        pytest.skip(f"the file system takes no file of this size: {error}")
    cfsctl("--repo", store, verb, "--no-propagate-usr-to-root", tree)
    assert space_kib(store) < MOST_KIB
