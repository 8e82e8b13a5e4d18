"""podman runs what was built and pushed here."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import require, run_cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SHELL = """
[ -e /sys/fs/cgroup/cgroup.procs ] || {
    umount -l /sys/fs/cgroup
    mount -t cgroup2 none /sys/fs/cgroup
}
exec "$@"
"""
"""Gives crun version 2 of cgroups, which machines with version 1 have as well."""

NAMESPACE = ("unshare", "--mount", "--cgroup", "--propagation", "private", "sh", "-ec", SHELL, "sh")

LIMITS = ("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024")
"""Limits that may be set without CAP_SYS_RESOURCE."""

IMPOSSIBLE = (
    "peration not permitted",
    "ermission denied",
    "not supported",
    "read-only file system",
    "cannot set up",
)


@pytest.fixture
def podman(tmp_path: Path) -> Iterator[list[str]]:
    """Return podman with a storage of its own, in a namespace where it can run containers."""
    for program in ("podman", "unshare", "busybox"):
        require(program)
    with tempfile.TemporaryDirectory(prefix="x", dir="/tmp") as state:  # paths of sockets must be short
        storage = ("--root", str(tmp_path / "s"), "--runroot", state, "--storage-driver", "vfs")
        words = [*NAMESPACE, "podman", "--cgroup-manager", "cgroupfs", *storage]
        yield words
        subprocess.run([*words, "rm", "--all", "--force"], capture_output=True, check=False, timeout=60)


def call(words: list[str], *arguments: str) -> str:
    done = subprocess.run(
        [*words, *arguments],
        capture_output=True,
        check=False,
        text=True,
        timeout=120,
        stdin=subprocess.DEVNULL,
    )
    if done.returncode and any(text in done.stderr for text in IMPOSSIBLE):
        pytest.skip(f"no containers can be run here: {done.stderr[-200:]}")
    assert done.returncode == 0, done.stderr
    return done.stdout


def make_tree(path: Path) -> Path:
    busybox = shutil.which("busybox")
    assert busybox is not None
    if b"dynamically" in subprocess.run(["file", "-L", busybox], capture_output=True, check=False).stdout:
        pytest.skip("busybox is linked with libraries, which the image would need")
    programs = path / "usr" / "bin"
    programs.mkdir(parents=True)
    shutil.copy(busybox, programs / "busybox")
    for name in ("sh", "cat", "id", "stat"):
        (programs / name).symlink_to("busybox")
    (path / "bin").symlink_to("usr/bin")
    for name in ("dev", "proc", "sys", "run", "tmp", "etc"):
        (path / name).mkdir()
    (path / "usr" / "greeting").write_text("from the lower layer\n")
    (path / "usr" / "private").write_text("x")
    (path / "usr" / "private").chmod(0o600)
    return path


def test_what_was_built_and_pushed_runs(tmp_path: Path, podman: list[str]) -> None:
    lower = make_tree(tmp_path / "lower")
    upper = tmp_path / "upper"
    (upper / "usr").mkdir(parents=True)
    (upper / "usr" / "greeting").write_text("from the upper layer\n")

    def cfsctl(*words: str) -> None:
        done = run_cfsctl("--repo", tmp_path / "r", *words)
        assert done.returncode == 0, done.stderr

    cfsctl("init", "--insecure")
    cfsctl("oci", "build", f"dir:{lower}", "lower", "--entrypoint", "cat", "--env", "GREETING=hello")
    cfsctl(
        "oci",
        "build",
        f"dir:{upper}",
        "app",
        "--base",
        "lower",
        "--cmd",
        "/usr/greeting",
        "--compression",
        "zstd",
    )
    for tag in ("lower", "app"):
        cfsctl("oci", "push", tag, f"oci-archive:{tmp_path}/{tag}.tar:{tag}")
    images = {
        tag: call(podman, "pull", "--quiet", f"oci-archive:{tmp_path}/{tag}.tar").strip()
        for tag in ("lower", "app")
    }

    run = ("run", "--rm", "--cgroups=disabled", "--net=none", *LIMITS)
    assert call(podman, *run, images["app"]) == "from the upper layer\n"
    assert call(podman, *run, images["lower"], "/usr/greeting") == "from the lower layer\n"
    shell = "echo $GREETING; stat -c '%a %u %g' /usr/private"
    assert call(podman, *run, "--entrypoint", "sh", images["app"], "-c", shell) == "hello\n600 0 0\n"
