"""Images that are served by FUSE, each in a mount namespace of its own, by root and by users."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Run = Callable[..., dict[str, Any]]

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None or shutil.which("setpriv") is None,
        reason="unshare or setpriv is not installed (package util-linux)",
    ),
    pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE here (/dev/fuse)"),
]

_ROOT = Path(__file__).parents[2]
NEEDS_HELPER = pytest.mark.skipif(
    shutil.which("fusermount3") is None, reason="fusermount3 is not installed (package fuse3)"
)
USED = {"plain": "fuse.composefs", "overlay": "overlay", "user": "fuse.composefs", "userns": "overlay"}


@pytest.fixture
def run() -> Iterator[Run]:
    """Return what runs a job in a directory that every user can look into."""
    with tempfile.TemporaryDirectory(prefix="cfsctl-fuse-") as place:
        os.chmod(place, 0o755)

        def run_job(job: str, *arguments: str) -> dict[str, Any]:
            command = ["unshare", "--mount", "--propagation", "private", sys.executable]
            command += ["-m", "tests.privileged.fuse_jobs", job, place, *arguments]
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=300, check=False, cwd=_ROOT
            )
            assert done.returncode == 0, done.stderr
            answer: dict[str, Any] = json.loads(done.stdout)
            if "skip" in answer:
                pytest.skip(answer["skip"])
            return answer

        yield run_job


def compare(run: Run, who: str, version: str, seed: int) -> None:
    answer = run("same", who, version, str(seed))
    assert answer["different"] == []
    assert answer["count"] > 700
    ((kind, source),) = answer["mounts"]
    assert (kind, source.partition(":")[0]) == (USED[who], "composefs-fuse")


@pytest.mark.parametrize("who", ["plain", "overlay", pytest.param("user", marks=NEEDS_HELPER), "userns"])
def test_fuse_shows_what_the_kernel_shows(run: Run, who: str) -> None:
    compare(run, who, "V1", seed=1)


@pytest.mark.deep
@pytest.mark.parametrize("seed", range(2, 8))
@pytest.mark.parametrize("version", ["V0", "V1", "V2"])
@pytest.mark.parametrize("who", ["plain", "overlay", pytest.param("user", marks=NEEDS_HELPER), "userns"])
def test_fuse_shows_what_the_kernel_shows_of_other_trees(run: Run, who: str, version: str, seed: int) -> None:
    compare(run, who, version, seed)


ODD = {
    "hole": True,
    "stub": "ENOENT",
    "sorted": True,
    "blocks": True,
    "inodes": True,
    "seek": [5, 200_000],
    "missing": "ENOENT",
    "too_long": "ENAMETOOLONG",
    "write": "EROFS",
    "flags": "ENOTTY",
}


def test_odd_files_in_a_plain_mount(run: Run) -> None:
    assert run("odd-files", "fuse") == {**ODD, "whiteout": "ENOENT"}


def test_odd_files_below_an_overlay(run: Run) -> None:
    assert run("odd-files", "fuse-overlay") == {**ODD, "whiteout": True}


@pytest.mark.parametrize("how", ["missing", "cut"])
def test_content_that_is_not_what_it_should_be(run: Run, how: str) -> None:
    assert run("damaged-content", how) == {key: ["EIO", True, True, True] for key in ("insecure", "secure")}


def test_changed_content_is_refused_where_the_repository_demands_it(run: Run) -> None:
    answer = run("damaged-content", "changed")
    assert answer == {"insecure": [True] * 4, "secure": ["EIO", True, True, True]}


def test_content_is_checked_again_after_it_was_changed(run: Run) -> None:
    assert run("changed") == {"before": 64, "after": "EIO"}


def test_damaged_inode_spoils_no_other(run: Run) -> None:
    assert run("damaged-image") == {"listed": True, "broken": "EIO", "others": True}


def test_file_that_is_no_image(run: Run) -> None:
    answer = run("not-an-image")
    assert (answer["status"], answer["mounts"]) == (16, [])
    assert "bad composefs magic" in answer["err"]


@pytest.mark.alone  # what others mount in the meantime shows
def test_life_of_a_mount(run: Run) -> None:
    answer = run("life")
    mountpoint, image = answer["expected"]
    image_id = image.rpartition(":")[2]
    silent = {"status": 0, "out": "", "err": ""}
    assert answer["mounted"] == silent
    assert answer["servers"] == [[True, True]]
    assert answer["listed"] == [
        {"mountpoint": mountpoint, "kind": "fuse", "images": [image], "refs": ["im"], "certain": True}
    ]
    assert all(text in answer["text"] for text in (mountpoint, "fuse", image_id[:12], "im"))
    assert answer["gc"]["status"] == 11
    assert f"{mountpoint} {image_id[:12]}" in answer["gc"]["err"]
    assert answer["read"]
    assert (answer["again"], answer["stacked"]) == (0, 2)
    assert answer["umount"] == [silent, silent]
    assert answer["left"] == []
    assert answer["collected"] == {**silent, "out": "Objects: 0 removed (0 bytes)\n"}
    assert answer["nothing"] == {**silent, "status": 17, "err": "Error: fuse-mnt: nothing is mounted there\n"}
    assert answer["other"]["status"] == 17
    assert "expected a mount of an image, found proc" in answer["other"]["err"]


@pytest.mark.parametrize(
    ("number", "how"), [(15, "foreground"), (15, "background"), (2, "foreground"), (1, "background")]
)
def test_server_unmounts_when_it_is_told_to_end(run: Run, number: int, how: str) -> None:
    answer = run("ended-by", str(number), how)
    status = 0 if how == "foreground" else None
    assert answer == {"ended": True, "status": status, "mounts": 0, "look": 0, "left": 0, "fsck": 0}


@pytest.mark.parametrize("how", ["foreground", "background"])
def test_mount_of_a_killed_server_can_be_unmounted(run: Run, how: str) -> None:
    answer = run("ended-by", "9", how)
    assert (answer["mounts"], answer["look"]) == (1, "ENOTCONN")
    assert answer["umount"] == {"status": 0, "out": "", "err": ""}
    assert (answer["left"], answer["fsck"]) == (0, 0)


def test_refusals_are_explained_and_leave_nothing(run: Run) -> None:
    answer = run("refused")
    assert (answer["left"], answer["mounts"]) == (0, [])
    expected = {
        "missing": (17, "nowhere: No such file or directory"),
        "file": (1, "file: Not a directory"),
        "foreground": (17, "nowhere: No such file or directory"),
        "image": (17, "image not found: nothing"),
        "work": (17, "opening workdir: "),
    }
    for name, (status, text) in expected.items():
        assert answer[name]["status"] == status, name
        assert answer[name]["err"].startswith("Error: "), name
        assert text in answer[name]["err"], name
        assert "Traceback" not in answer[name]["err"], name


@NEEDS_HELPER
def test_users_are_told_what_is_missing(run: Run) -> None:
    answer = run("refused-to-user")
    expected = {
        "upper": ("needs CAP_SYS_ADMIN", "in a user namespace"),
        "kernel": ("Operation not permitted", ""),
        "elsewhere": ("no write access to mountpoint", "Hint: choose a directory that belongs to you"),
        "device": ("/dev/fuse: Permission denied", "Hint: /dev/fuse must exist"),
        "helper": ("fusermount3 is not installed", "Hint: install the package fuse3"),
    }
    for name, (text, hint) in expected.items():
        assert answer[name]["status"] == 1, name
        assert text in answer[name]["err"], name
        assert hint in answer[name]["err"], name


@NEEDS_HELPER
def test_users_are_told_that_something_is_mounted_there(run: Run) -> None:
    answer = run("mounted-twice")
    assert answer["statuses"] == [0, 1, 0]
    assert "Hint: if something is mounted there already, unmount it" in answer["err"]
    assert (answer["mounts"], answer["left"]) == (1, 0)


@NEEDS_HELPER
@pytest.mark.parametrize(
    ("how", "status", "said"),
    [("thread", 1, "Error: serving the mount: can't start new thread\n"), ("signal", 0, "")],
)
def test_nothing_stays_mounted_if_the_server_cannot_begin(run: Run, how: str, status: int, said: str) -> None:
    for who, found in run("without-threads", how).items():
        assert (found["status"], found["err"]) == (status, said), who
        assert (found["mounts"], found["left"]) == ([], 0), who


def test_files_of_all_kinds_can_be_changed_through_an_overlay(run: Run) -> None:
    answer = run("writable")
    assert answer == {
        "mounted": {"status": 0, "out": "", "err": ""},
        "external": 200_004,
        "tail": "more",
        "renamed": 70_000,
        "upper": ["empty", "external", "inline", "many", "new", "old", "other", "renamed"],
    }


def test_fuse_is_used_if_the_kernel_cannot_mount(run: Run) -> None:
    answer = run("falls-back")
    assert len(answer["told"]) == 1
    assert "using FUSE because the kernel cannot mount it: erofs: No such device" in answer["told"][0]
    assert [kind for kind, _ in answer["mounts"]] == ["overlay"]
    assert answer["read"]
    assert answer["strict"] == "ENODEV"


@pytest.mark.alone
@pytest.mark.parametrize("where", ["here", "elsewhere"])
def test_collection_keeps_what_a_server_without_lock_needs(run: Run, where: str) -> None:
    answer = run("lost-lock", where)
    assert answer["dry"] == [0, 1]
    assert (answer["status"], answer["removed"]) == (0, 0)
    assert answer["listed"] == [["fuse", True, [], True]]
    assert answer.get("read", True)
    assert answer["after"]
