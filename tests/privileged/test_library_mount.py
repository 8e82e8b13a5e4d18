"""Mounting with the library."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import pathlib, cfsctl
with cfsctl.Repository.init("store", insecure=True, exist_ok=True) as repository:
    image = repository.create_image("tree", "web")
    with repository.mounted(image, "mnt"):
        print(pathlib.Path("mnt/usr/file").read_bytes() == b"x" * 5000)
        try:
            pathlib.Path("mnt/usr/new").touch()
        except OSError as error:
            print(error.strerror)
    print(list(pathlib.Path("mnt").iterdir()))
    layer = cfsctl.WritableLayer("upper", "work")
    with repository.mounted("web", "mnt", writable_layer=layer):
        pathlib.Path("mnt/usr/new").touch()
    print([path.name for path in pathlib.Path("upper/usr").iterdir()])
    try:
        repository.mount("nothing", "mnt")
    except cfsctl.RefNotFoundError as error:
        print(error)
"""


SCRIPT = """
mount -t tmpfs none layers
mkdir layers/upper layers/work
ln -s layers/upper layers/work .
exec "$0" -c "$1"
"""


@pytest.mark.privileged
def test_mounts_end_with_their_block(tmp_path: Path) -> None:
    if os.geteuid():
        pytest.skip("mounting needs root")
    (tmp_path / "tree" / "usr").mkdir(parents=True)
    (tmp_path / "tree" / "usr" / "file").write_bytes(b"x" * 5000)
    for name in ("mnt", "layers"):
        (tmp_path / name).mkdir()
    done = subprocess.run(
        ["unshare", "--mount", "--propagation", "private", "sh", "-ec", SCRIPT, sys.executable, PROGRAM],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "True",
        "Read-only file system",
        "[]",
        "['new']",
        "image not found: nothing",
    ]
