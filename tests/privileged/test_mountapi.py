"""The mount calls and loop devices, in a mount namespace of their own."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from cfsctl.linux import mountapi

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]


def _run(program: str, *arguments: str) -> str:
    """Run a Python program in a mount namespace of its own; skip where mounting is not allowed."""
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", program, *arguments]
    result = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    if "SKIP" in result.stdout:
        pytest.skip(result.stdout.strip())
    assert result.returncode == 0, result.stderr
    return result.stdout


_TMPFS = """
import os, sys
from cfsctl.linux.mountapi import *
target = sys.argv[1]
try:
    context = fsopen("tmpfs")
except PermissionError:
    print("SKIP: mounting is not allowed here"); sys.exit()
fsconfig_string(context, "size", "1m")
fsconfig_string(context, "source", "marker")
fsconfig_create(context)
mount = fsmount(context, MOUNT_ATTR_NODEV)
move_mount(mount, target)
open(target + "/file", "w").close()
mount_setattr(mount, set_attributes=MOUNT_ATTR_RDONLY)
try:
    open(target + "/other", "w")
except OSError as error:
    print(error.errno)
print(*[line.split()[5] for line in open("/proc/self/mountinfo") if " marker " in line])
copy = open_tree(-100, target, OPEN_TREE_CLONE)
print(os.listdir(os.open(".", os.O_RDONLY, dir_fd=copy)))
umount(target, MNT_DETACH)
print(os.listdir(target))
"""


def test_file_system_is_mounted_changed_copied_and_detached(tmp_path: Path) -> None:
    lines = _run(_TMPFS, os.fspath(tmp_path)).splitlines()
    assert lines == [str(errno.EROFS), "ro,nodev,relatime", "['file']", "[]"]


_ERROR = """
import sys
from cfsctl.linux.mountapi import *
try:
    context = fsopen("tmpfs")
except PermissionError:
    print("SKIP: mounting is not allowed here"); sys.exit()
try:
    fsconfig_string(context, "nonsense", "1")
except OSError as error:
    print(error.errno, error.filename, error.strerror)
try:
    fsopen("nosuchfs")
except OSError as error:
    print(error.errno, error.filename)
"""


def test_refused_option_is_explained_by_the_kernel(tmp_path: Path) -> None:
    first, second = _run(_ERROR, os.fspath(tmp_path)).splitlines()
    assert first.startswith(f"{errno.EINVAL} nonsense ")
    assert "Unknown parameter 'nonsense'" in first
    assert second == f"{errno.ENODEV} nosuchfs"


def test_error_of_umount_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Invalid argument") as caught:
        mountapi.umount(os.fspath(tmp_path))
    assert caught.value.filename == os.fspath(tmp_path)


def test_loop_device_shows_the_file_read_only(tmp_path: Path) -> None:
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("no loop devices here")
    content = os.urandom(1 << 16)
    (tmp_path / "image").write_bytes(content)
    with (tmp_path / "image").open("rb") as image:
        device, path = mountapi.attach_loop(image.fileno())
    try:
        assert os.pread(device, len(content) + 1, 0) == content
        with open(f"/sys/block/{os.path.basename(path)}/ro", encoding="ascii") as flag:
            assert flag.read() == "1\n"
    finally:
        os.close(device)
