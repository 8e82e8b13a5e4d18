"""File systems that agree in every number and differ in content, mounted one after the other."""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.scan import FileCache, scan_directory
from tests.support.programs import require
from tests.support.repositories import make_repository
from tests.support.scans import describe_directory, describe_tree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.repository import Repository
    from tests.support.scans import Description

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

EPOCH = 1_000_000_000
UUID = "6a6b5a5c-0000-4000-8000-123456789abc"

MAKERS = {
    "ext4": (
        f"mke2fs -q -t ext4 -U {UUID} -E hash_seed={UUID} -d TREE IMAGE 8M",
        # What SOURCE_DATE_EPOCH does in releases since 1.47.1.
        f"debugfs -w -R 'set_inode_field /file ctime @{EPOCH}' IMAGE",
    ),
    "erofs": (f"mkfs.erofs -T{EPOCH} -U{UUID} IMAGE TREE",),
}
"""What makes the image of a directory with times of its own."""

PACKAGES = {"mke2fs": "e2fsprogs", "debugfs": "e2fsprogs", "mkfs.erofs": "erofs-utils"}


def _make_image(kind: str, tree: Path, image: Path) -> None:
    words = {"TREE": os.fspath(tree), "IMAGE": os.fspath(image)}
    for line in MAKERS[kind]:
        command = [words.get(word, word) for word in shlex.split(line)]
        require(command[0], PACKAGES[command[0]])
        subprocess.run(command, check=True, capture_output=True)


def _run(*command: str | Path) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"{command[0]} is not possible here: {done.stderr.strip()}")
    return done.stdout.strip()


@contextlib.contextmanager
def _mounted(image: Path, device: str, target: Path) -> Iterator[None]:
    """Mount an image at a loop device of our choice."""
    _run("losetup", "--read-only", device, image)
    try:
        _run("mount", "-o", "ro", device, target)
        try:
            yield
        finally:
            _run("umount", target)
    finally:
        _run("losetup", "--detach", device)


def _scan(root: Path, repository: Repository) -> Description:
    cache = FileCache.load(repository.dirfd, repository.algorithm)
    filesystem = scan_directory(
        os.fspath(root), algorithm=repository.algorithm, store=repository.objects, workers=0, cache=cache
    )
    cache.save()
    return describe_tree(filesystem)


@pytest.mark.parametrize("kind", MAKERS)
def test_times_that_were_made_up_mean_nothing(tmp_path: Path, kind: str) -> None:
    tree, target = tmp_path / "tree", tmp_path / "mounted"
    tree.mkdir()
    target.mkdir()
    images = [tmp_path / "first", tmp_path / "second"]
    for image in images:
        (tree / "file").write_bytes(os.urandom(5000))
        os.utime(tree / "file", (EPOCH, EPOCH))
        os.utime(tree, (EPOCH, EPOCH))
        _make_image(kind, tree, image)
    device = _run("losetup", "--find")
    states = []
    with make_repository(tmp_path / "repo") as repository:
        for image in images:
            with _mounted(image, device, target):
                status = (target / "file").stat()
                states.append((status.st_dev, status.st_ino, status.st_size, status.st_ctime_ns))
                assert _scan(target, repository) == describe_directory(target, repository.algorithm)
    assert states[0] == states[1]
