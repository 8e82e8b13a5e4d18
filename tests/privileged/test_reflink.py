"""Copies between repositories on a file system that shares blocks between files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import Algorithm

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("mkfs.xfs") is None, reason="mkfs.xfs is not installed (package xfsprogs)"
    ),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]

_JOB = """
import json, os, subprocess, sys
from pathlib import Path
image, target, source_name, target_name = sys.argv[1:]
if subprocess.run(["mount", "-o", "loop", image, target]).returncode:
    sys.exit(77)
os.chdir(target)
from cfsctl.digest import Algorithm
from cfsctl.ostree.copying import copy_commit
from cfsctl.ostree.pull import pull
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.copying import copy_image
from cfsctl.repository.fsck import check_repository
from cfsctl.scan import build_images, scan_directory
from tests.fakes.ostree_repository import FakeOstreeRepository
os.mkdir("tree")
for number in range(8):
    Path(f"tree/f{number}").write_bytes(os.urandom(1 << 20))
source_hash, target_hash = (Algorithm.from_hash_name(name) for name in (source_name, target_name))
init_repository("a", algorithm=source_hash, insecure=True)
init_repository("b", algorithm=target_hash, insecure=True)
with Repository.open("a") as a, Repository.open("b") as b:
    tree = scan_directory("tree", algorithm=a.algorithm, store=a.objects, workers=0)
    image_id = build_images(a, tree, "im")
    fake = FakeOstreeRepository()
    fake.commit({"usr": {f"g{n}": os.urandom(1 << 20) for n in range(4)}}, "main")
    commit = pull(a, fake, "main", workers=0).commit
    os.sync()
    free = os.statvfs(".").f_bfree
    copied = copy_image(a, b, image_id, "im").counts
    commit_counts = copy_commit(a, b, commit, "main").counts
    os.sync()
    statistics = os.statvfs(".")
    used = (free - statistics.f_bfree) * statistics.f_frsize
    findings = check_repository(b, deep=True).findings
print(json.dumps([copied.copied_bytes, copied.shared_bytes, commit_counts.shared_bytes, used, findings]))
os.chdir("/")
subprocess.run(["umount", target], check=True)
"""


@pytest.mark.parametrize("target", list(Algorithm))
def test_copies_take_no_space(tmp_path: Path, target: Algorithm) -> None:
    image = tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    (tmp_path / "mnt").mkdir()
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", _JOB]
    arguments = [str(image), str(tmp_path / "mnt"), "sha256", target.hash_name]
    done = subprocess.run(
        [*command, *arguments], capture_output=True, text=True, timeout=120, check=False, env=_environment()
    )
    if done.returncode == 77:
        pytest.skip("mounting XFS is not possible here")
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    copied_bytes, shared_bytes, shared_of_commit, used_bytes, findings = answer
    assert copied_bytes > 8 << 20
    assert shared_bytes >= 8 << 20
    assert shared_of_commit >= 4 << 20
    assert used_bytes < 2 << 20
    assert findings == []


def _environment() -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": root}
