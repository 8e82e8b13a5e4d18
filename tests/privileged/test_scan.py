"""Scans that only root can prepare: devices, owners, mounts, attributes, other users."""

from __future__ import annotations

import errno
import os
import shutil
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.scan import scan_directory
from cfsctl.tree.model import CharDevice, Directory
from tests.support.scans import describe_directory, describe_tree, make_random_tree

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

NOBODY = 65534


@pytest.mark.parametrize("seed", range(100, 108))
def test_tree_with_devices_and_owners(tmp_path: Path, seed: int) -> None:
    try:
        os.mknod(tmp_path / "probe", stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("making devices is not allowed here")
    make_random_tree(tmp_path, seed, as_root=True)
    found = describe_tree(scan_directory(os.fspath(tmp_path), algorithm=Algorithm.SHA512, workers=seed % 2))
    assert found == describe_directory(tmp_path, Algorithm.SHA512)


def test_linked_whiteouts_stay_single(tmp_path: Path) -> None:
    try:
        os.mknod(tmp_path / "a", stat.S_IFCHR, 0)
    except PermissionError:
        pytest.skip("making devices is not allowed here")
    os.link(tmp_path / "a", tmp_path / "b")
    os.mknod(tmp_path / "null", stat.S_IFCHR, os.makedev(1, 3))
    os.link(tmp_path / "null", tmp_path / "null-again")
    entries = scan_directory(os.fspath(tmp_path), algorithm=Algorithm.SHA256).root.entries
    assert entries[b"a"] is not entries[b"b"]
    assert isinstance(entries[b"a"], CharDevice)
    assert entries[b"null"] is entries[b"null-again"]


def test_mount_points_are_crossed(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is not installed (package util-linux)")
    (tmp_path / "mounted").mkdir()
    program = (
        "import sys; from cfsctl.digest import Algorithm; from cfsctl.scan import scan_directory;"
        "root = scan_directory(sys.argv[1], algorithm=Algorithm.SHA256).root;"
        "print(*root.entries, *root.entries[b'mounted'].entries, root.entries[b'mounted'].mode)"
    )
    script = (
        'mount -t tmpfs -o mode=1700 none "$1/mounted" && : > "$1/mounted/file" && exec "$2" -c "$3" "$1"'
    )
    command = ["unshare", "--mount", "sh", "-c", script, "sh", os.fspath(tmp_path), sys.executable, program]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode and "permission denied" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert done.stdout.split() == ["b'mounted'", "b'file'", str(0o1700)], done.stderr


@pytest.mark.parametrize("unreadable", ["file", "directory", "directory/inner"])
@pytest.mark.parametrize("workers", [0, 1])
def test_other_users_see_what_they_may(tmp_path: Path, unreadable: str, workers: int) -> None:
    tree = tmp_path / "tree"
    (tree / "directory").mkdir(parents=True)
    (tree / "file").write_bytes(bytes(100))
    (tree / "directory" / "inner").write_bytes(bytes(70))
    for directory in (tmp_path, *list(tmp_path.parents)[:-2]):
        directory.chmod(0o755)
    (tree / unreadable).chmod(0)
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:  # A process of its own, since it cannot become root again.
        try:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            scan_directory(os.fspath(tree), algorithm=Algorithm.SHA256, workers=workers)
        except OSError as error:
            os.write(write_end, f"{error.errno} {error.filename}".encode())
        finally:
            os._exit(0)
    os.close(write_end)
    with open(read_end, encoding="utf-8") as stream:
        assert stream.read() == f"{errno.EACCES} {tree / unreadable}"
    os.waitpid(pid, 0)
    root = scan_directory(os.fspath(tree), algorithm=Algorithm.SHA256, workers=workers).root
    assert isinstance(root.entries[b"directory"], Directory)
