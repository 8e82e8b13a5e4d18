"""Copies and local pulls on a file system that shares blocks between files."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import Algorithm
from tests.support.ostree_client import require_ostree

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
from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.pull.options import PullOptions
from cfsctl.ostree.pull.pull import pull
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.copying import copy_image
from cfsctl.repository.check.fsck import check_repository
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
    commit = pull(a, fake, "main", PullOptions(workers=0)).commit
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
    answer = run_on_xfs(tmp_path, _JOB, "sha256", target.hash_name)
    copied_bytes, shared_bytes, shared_of_commit, used_bytes, findings = answer
    assert copied_bytes > 8 << 20
    assert shared_bytes >= 8 << 20
    assert shared_of_commit >= 4 << 20
    assert used_bytes < 2 << 20
    assert findings == []


_PULL_JOB = """
import json, os, subprocess, sys
from pathlib import Path
image, target, mode, hash_name = sys.argv[1:]
if subprocess.run(["mount", "-o", "loop", image, target]).returncode:
    sys.exit(77)
os.chdir(target)
from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.pull.options import PullOptions
from cfsctl.ostree.pull.pull import pull
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.check.fsck import check_repository
sizes = [100, 5000, 40000, (1 << 20) + 1, 9 << 20]
os.mkdir("tree")
for number, size in enumerate(sizes):
    Path(f"tree/f{number}").write_bytes(os.urandom(size))
def ostree(*arguments):
    subprocess.run(["ostree", "--repo=source", *arguments], check=True, capture_output=True)
ostree("init", f"--mode={mode}")
# Fixed owners, as the links of bare-user-only have none.
for branch in ("main", "broken"):
    ostree("commit", f"--branch={branch}", "--tree=dir=tree", "--owner-uid=0", "--owner-gid=0", "--no-xattrs")
    if branch == "main":
        Path("tree/f3").write_bytes(os.urandom(sizes[3]))
init_repository("r", algorithm=Algorithm.from_hash_name(hash_name), insecure=True)
with Repository.open("r") as r:
    os.sync()
    free = os.statvfs(".").f_bfree
    pull(r, LocalSource("source"), "main", PullOptions(workers=0))
    os.sync()
    statistics = os.statvfs(".")
    used = (free - statistics.f_bfree) * statistics.f_frsize
    newest = max(Path("source/objects").glob("*/*.file"), key=lambda path: path.stat().st_ctime_ns)
    with newest.open("r+b") as file:
        file.seek(70000)
        file.write(b"changed")
    try:
        pull(r, LocalSource("source"), "broken", PullOptions(workers=0))
        refusal = "none"
    except CfsError as error:
        refusal = str(error)
    objects = [path for path in Path("r/objects").glob("*/*")]
    findings = check_repository(r, deep=True).findings
print(json.dumps([used, refusal, len(objects), findings]))
os.chdir("/")
subprocess.run(["umount", target], check=True)
"""


@pytest.mark.parametrize(("mode", "target"), [("bare", "sha256"), ("bare-user", "sha512")])
def test_what_is_pulled_from_a_bare_repository_takes_no_space(tmp_path: Path, mode: str, target: str) -> None:
    require_ostree()
    used_bytes, refusal, object_count, findings = run_on_xfs(tmp_path, _PULL_JOB, mode, target)
    assert used_bytes < 2 << 20
    assert "expected digest" in refusal
    assert object_count >= 5 + 2  # contents, stream and image
    assert findings == []


def run_on_xfs(tmp_path: Path, job: str, *arguments: str) -> list[Any]:
    """Run a program on a new file system in its own mount namespace; return what it prints as JSON."""
    image = tmp_path / "xfs"
    with image.open("wb") as file:
        file.truncate(400 << 20)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True)
    (tmp_path / "mnt").mkdir()
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", job]
    done = subprocess.run(
        [*command, str(image), str(tmp_path / "mnt"), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=_environment(),
    )
    if done.returncode == 77:
        pytest.skip("mounting XFS is not possible here")
    assert done.returncode == 0, done.stderr
    answer: list[Any] = json.loads(done.stdout)
    return answer


def _environment() -> dict[str, str]:
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return {**os.environ, "PYTHONPATH": root}


_STORAGE_JOB = """
import json, os, subprocess, sys
from pathlib import Path
image, target, sharing, hash_name = sys.argv[1:]
if subprocess.run(["mount", "-o", "loop", image, target]).returncode:
    sys.exit(77)
os.chdir(target)
from cfsctl.digest import Algorithm
from cfsctl.oci.copy import copy_image
from cfsctl.oci.pull import pull
from cfsctl.oci.sources.containers_storage import ContainersStorageSource
from cfsctl.repository import Repository, init_repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.objects.sharing import Sharing
from tests.support.container_storage import Storage
from tests.support.oci import directory, file, make_tar
layer = make_tar([directory("usr"), *(file(f"usr/f{n}", os.urandom(1 << 20), 0o4755) for n in range(8))])
Storage(Path(target, "storage")).add_image(["localhost/a:b"], [layer])
init_repository("a", algorithm=Algorithm.SHA256, insecure=True)
init_repository("b", algorithm=Algorithm.from_hash_name(hash_name), insecure=True)
source = ContainersStorageSource(f"[{target}/storage]a:b", ())
with Repository.open("a") as a, Repository.open("b") as b:
    os.sync()
    free = os.statvfs(".").f_bfree
    pulled = pull(a, source, "t", workers=0, sharing=Sharing(sharing)).counts
    copied = copy_image(a, b, "t", "t", zerocopy=hash_name == "sha256").counts
    os.sync()
    statistics = os.statvfs(".")
    used = (free - statistics.f_bfree) * statistics.f_frsize
    findings = check_repository(a, deep=True).findings + check_repository(b, deep=True).findings
source.close()
counts = [pulled.reflinked, pulled.hardlinked, copied.reflinked, copied.reflinked_bytes]
print(json.dumps([*counts, used, findings]))
os.chdir("/")
subprocess.run(["umount", target], check=True)
"""


@pytest.mark.parametrize(("sharing", "target"), [("auto", "sha256"), ("zerocopy", "sha512")])
def test_container_images_take_no_space(tmp_path: Path, sharing: str, target: str) -> None:
    reflinked, hardlinked, copied, copied_bytes, used_bytes, findings = run_on_xfs(
        tmp_path, _STORAGE_JOB, sharing, target
    )
    assert (reflinked, hardlinked, copied, copied_bytes) == (8, 0, 8, 8 << 20)
    assert used_bytes < 2 << 20
    assert findings == []
