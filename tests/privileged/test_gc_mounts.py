"""A collection keeps what is mounted: every way of mounting, by the real kernel, in own namespaces."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.programs import CFSCTL

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
    pytest.mark.skipif(
        b"erofs" not in Path("/proc/filesystems").read_bytes(), reason="the kernel has no EROFS"
    ),
]

_ROOT = Path(__file__).parents[2]
KEPT = {"removed": 0, "complete": True, "old": True, "file": True}


def run(job: str, path: Path) -> dict[str, Any]:
    program = Path(__file__).with_name("gc_mount_jobs.py")
    command = ["unshare", "--mount", "--propagation", "private", sys.executable, str(program), job, str(path)]
    result = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(_ROOT)},
    )
    if "Operation not permitted" in result.stderr:
        pytest.skip("mounting is not allowed here")
    if "Block device required" in result.stderr:
        pytest.skip("EROFS cannot be mounted from a file of this file system")
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


@pytest.mark.parametrize(
    ("job", "mounts"),
    [
        # Nothing that the kernel shows tells the two images apart, so both are kept.
        ("by_moved_ref", [[2, False]]),
        ("by_id", [[1, True]]),
        ("writable", [[2, False]]),
        ("covered", [[2, False]]),
        ("detached", [[2, False]]),
        # It may be of any repository, so collections that other tests run meanwhile would keep too much.
        pytest.param("detached_below_upper_layer", [[2, False]], marks=pytest.mark.alone),
    ],
)
def test_mounted_image_is_kept_until_it_is_unmounted(
    tmp_path: Path, job: str, mounts: list[list[object]]
) -> None:
    answer = run(job, tmp_path)
    assert answer.pop("readable") == ("FileNotFoundError" if job == "covered" else "old")
    assert answer == {**KEPT, "mounts": mounts, "removed_afterwards": 2}


@pytest.mark.parametrize("job", ["erofs_file", "erofs_loop"])
def test_plain_erofs_mount_of_an_object(tmp_path: Path, job: str) -> None:
    answer = run(job, tmp_path)
    del answer["readable"]
    assert answer == {**KEPT, "mounts": [[1, True]], "removed_afterwards": 2}


def test_mount_that_only_another_namespace_has(tmp_path: Path) -> None:
    answer = run("other_namespace", tmp_path)
    assert answer.pop("readable") == "FileNotFoundError"
    assert answer == {**KEPT, "mounts": [[2, False]], "removed_afterwards": 2}


def test_image_from_outside_keeps_everything(tmp_path: Path) -> None:
    answer = run("unknown_image", tmp_path)
    assert answer.pop("readable") == "old"
    assert answer == {**KEPT, "complete": False, "mounts": [[0, False]], "removed_afterwards": 2}


def test_the_chain_begins_at_the_mount(tmp_path: Path) -> None:
    answer = run("why", tmp_path)
    assert answer["steps"][0] == f"mount at {tmp_path}/mnt"
    assert answer["steps"][-1].startswith("objects/")
    assert answer["kept"] is False


def test_open_file_of_a_detached_mount_stays_readable_without_its_object(tmp_path: Path) -> None:
    answer = run("detached_file", tmp_path)
    assert answer["readable"] == "old"
    assert (answer["mounts"], answer["removed"]) == ([], 2)


@pytest.mark.parametrize(
    "job", ["other_image", "detached_from_elsewhere", "detached_overlay_from_elsewhere", "gone_meanwhile"]
)
def test_mount_that_is_none_of_ours_keeps_nothing(tmp_path: Path, job: str) -> None:
    assert run(job, tmp_path) == {"removed": 2, "mounts": 0}


@pytest.mark.parametrize("job", ["silent", "silent_detached"])
def test_file_system_of_somebody_else_is_never_asked(tmp_path: Path, job: str) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no FUSE")
    assert run(job, tmp_path) == {"said": [], "complete": True, "old": True}


def test_overlay_of_somebody_else_that_looks_like_ours_is_never_asked(tmp_path: Path) -> None:
    if not Path("/dev/fuse").exists():
        pytest.skip("the kernel has no FUSE")
    answer = run("silent_over_listed", tmp_path)
    assert answer == {**KEPT, "mounts": [[2, False]], "readable": "old", "said": []}


@pytest.mark.alone  # a detached image of another test would be a reason to keep everything
def test_overlay_of_somebody_else_keeps_nothing(tmp_path: Path) -> None:
    answer = run("pinned", tmp_path)
    assert answer == {**KEPT, "removed": 2, "mounts": [[1, True]], "readable": "old", "garbage": False}


@pytest.mark.parametrize(
    ("job", "gap"),
    [
        ("no_proc", "/proc/self/mountinfo: No such file or directory"),
        ("no_mountinfo", "/proc/self/mountinfo: No such file or directory"),
        ("hidepid", "processes of other users, which /proc hides"),
        ("forbidden", "mounts of process "),
        ("pid_namespace", "processes outside of this PID namespace"),
        ("other_proc", "/proc/self/mountinfo: No such file or directory"),
    ],
)
def test_what_cannot_be_seen_may_be_mounted(tmp_path: Path, job: str, gap: str) -> None:
    open_to_others(tmp_path)
    answer = run(job, tmp_path)
    removed, is_complete, problems = answer["answer"]
    assert (removed, is_complete, answer["readable"]) == (0, False, "old")
    assert any(
        f"cannot tell what is mounted, so every object may be in use: {gap}" in each for each in problems
    )


def test_mount_that_only_another_thread_sees(tmp_path: Path) -> None:
    removed, is_complete, problems = run("other_thread", tmp_path)["answer"]
    assert (removed, is_complete, problems) == (0, True, [])


@pytest.mark.alone  # without the mount table of the namespace only other mounts could account for its EROFS
@pytest.mark.parametrize(
    ("job", "gap"),
    [
        ("empty_namespace", "mount namespace without processes at "),
        ("empty_namespace_open", "mount namespace without processes that process "),
    ],
)
def test_namespace_without_processes(tmp_path: Path, job: str, gap: str) -> None:
    removed, is_complete, problems = run(job, tmp_path)["answer"]
    assert (removed, is_complete) == (0, False)
    assert any(f"cannot tell what is mounted, so every object may be in use: {gap}" in p for p in problems)


def test_user_without_rights_sees_mounts_of_root_in_other_namespaces(tmp_path: Path) -> None:
    open_to_others(tmp_path)
    assert run("not_root", tmp_path) == {"answer": [0, True, []], "readable": "old"}


def open_to_others(path: Path) -> None:
    """Let other users into a directory of the tests."""
    for each in (path, *path.parents):
        if each.stat().st_mode & 0o005 == 0o005:
            break
        os.chmod(each, 0o755)


def test_scan_without_proc_says_what_it_needs(tmp_path: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree" / "link").symlink_to("target")
    script = 'umount -l /proc && exec "$@"'
    command = [str(CFSCTL), "--no-repo", "create-dumpfile", str(tmp_path / "tree")]
    result = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script, "sh", *command],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if "must be superuser" in result.stderr or "ermission denied" in result.stderr:
        pytest.skip("mounting is not allowed here")
    assert result.returncode == 1
    assert "Error: a scan needs /proc, which is not mounted\nHint: mount -t proc proc /proc" in result.stderr
