"""Repositories on file systems that are full or read-only, in a mount namespace of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]


def run(program: str, path: Path) -> None:
    """Run a Python program in a mount namespace of its own; skip where mounting is not allowed."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _PROLOGUE + program]
    result = subprocess.run([*command, path], capture_output=True, text=True, timeout=60, check=False)
    if result.returncode == 77:
        pytest.skip("mounting is not allowed here")
    assert result.returncode == 0, result.stderr
    assert result.stdout == "done\n"


_PROLOGUE = """
import errno, os, subprocess, sys
from pathlib import Path
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.locking.access import NotWritableError
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.tree.model import Directory, FileSystem
target = sys.argv[1]
def mount(*arguments):
    if subprocess.run(["mount", *arguments, target]).returncode:
        sys.exit(77)
def endless_image():
    # The headers of an image of 1000 blocks, then anything.
    image = bytearray(build_image(FileSystem(Directory(0o755)), FormatVersion.V1))
    image[1024 + 36 : 1024 + 40] = (1000).to_bytes(4, "little")
    yield bytes(image)
    yield from (os.urandom(4096) for _ in range(500))
def names():
    return sorted(str(p) for p in Path(target).rglob("*") if not p.is_dir() or p.is_symlink())
"""

_FULL = """
mount("-t", "tmpfs", "-o", "size=1m", "tmpfs")
init_repository(target, insecure=True)
with Repository.open(target) as repository:
    small = repository.objects.ensure_bytes(b"small" * 100)
    repository.images.link(small.object_id, "im")
    before = names()
    for _ in range(2):
        try:
            repository.objects.ensure_bytes(os.urandom(2 << 20))
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        else:
            raise AssertionError("there was space")
        try:
            repository.images.import_image(endless_image(), "new")
        except OSError as error:
            assert error.errno == errno.ENOSPC, error
        assert names() == before
    assert [finding.split(":")[1] for finding in check_repository(repository).findings] == [" image-invalid"]
    assert repository.objects.ensure_bytes(b"x" * 100_000).is_new
    assert collect_garbage(repository).is_complete is False
print("done")
"""

_READ_ONLY = """
init_repository(target, insecure=True)
with Repository.open(target) as repository:
    stored = repository.objects.ensure_bytes(b"x" * 100)
    repository.streams.link("s", stored.object_id, "r")
mount("--bind", target)
subprocess.run(["mount", "-o", "remount,bind,ro", target], check=True)
before = names()
with Repository.open(target) as repository:
    assert repository.streams.find("refs/r") == stored.object_id
    assert repository.objects.read(stored.object_id) == b"x" * 100
    assert repository.objects.ensure_bytes(b"x" * 100).is_new is False
    assert check_repository(repository).as_dict()["objects_checked"] == 1
    collect_garbage(repository, dry_run=True)
    for write in (
        lambda: repository.objects.ensure_bytes(b"new"),
        lambda: repository.objects.create(),
        lambda: repository.streams.link("t", stored.object_id),
        lambda: repository.streams.remove_ref("r"),
        lambda: collect_garbage(repository),
    ):
        try:
            write()
        except NotWritableError as error:
            assert "not writable: read-only file system" in str(error)
        else:
            raise AssertionError("it was written")
assert names() == before
print("done")
"""


def test_full_file_system(tmp_path: Path) -> None:
    run(_FULL, tmp_path)


def test_read_only_file_system(tmp_path: Path) -> None:
    run(_READ_ONLY, tmp_path)
