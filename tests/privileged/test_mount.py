"""Images mounted by the kernel, each in a mount namespace of its own, also as older kernels would."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import ObjectID, object_path
from cfsctl.erofs.format import FormatVersion
from cfsctl.erofs.write.image import build_image
from cfsctl.tree.model import Directory, ExternalFile, FileSystem, InlineFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Callable

    Run = Callable[[str], dict[str, Any]]

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]

_ROOT = Path(__file__).parents[2]
_CONTENT = "content of an object\n" * 10
_OBJECT = ObjectID(b"\xaa" * 32)

SEEN = {
    "mounts": 1,
    "type": "overlay",
    "names": ["dir", "external", "inline", "link"],
    "inline": "inline\n",
    "external": _CONTENT,
    "external_again": _CONTENT,
    "same_inode": True,
    "link": "../target",
    "owners": [7, 0],
    "mode": "0o104755",
    "label": "hello",
}


def _tree() -> FileSystem:
    root = Directory(0o755)
    external = ExternalFile(_OBJECT, len(_CONTENT), 0o644)
    root.entries[b"inline"] = InlineFile(b"inline\n", 0o4755, 7, 8, xattrs={b"user.note": b"hello"})
    root.entries[b"external"] = external
    root.entries[b"link"] = Symlink(b"../target", 0o777)
    root.entries[b"dir"] = directory = Directory(0o700)
    directory.entries[b"again"] = external
    return FileSystem(root)


@pytest.fixture(params=[FormatVersion.V1])
def run(request: pytest.FixtureRequest, tmp_path: Path) -> Run:
    """Return what runs a job on an image of the format that the parameter names."""
    (tmp_path / "image").write_bytes(build_image(_tree(), request.param))
    (tmp_path / "mnt").mkdir()
    content = tmp_path / "objects" / object_path(_OBJECT)
    content.parent.mkdir(parents=True)
    content.write_text(_CONTENT)

    def run_job(job: str) -> dict[str, Any]:
        command = ["unshare", "--mount", "--propagation", "private", sys.executable]
        command += ["-m", "tests.privileged.mount_jobs", job, os.fspath(tmp_path)]
        # All loop devices and temporary directories of a job are below its own directory.
        environment = os.environ | {"TMPDIR": os.fspath(tmp_path)}
        result = subprocess.run(
            command, capture_output=True, text=True, timeout=60, check=False, cwd=_ROOT, env=environment
        )
        assert result.returncode == 0, result.stderr
        answer: dict[str, Any] = json.loads(result.stdout)
        if "skip" in answer:
            pytest.skip(answer["skip"])
        return answer

    return run_job


def _has(answer: dict[str, Any], **expected: object) -> bool:
    return {key: answer.get(key) for key in expected} == expected


@pytest.mark.parametrize("run", list(FormatVersion), indirect=True, ids=lambda version: version.name)
def test_image_is_mounted_and_leaves_nothing_behind(run: Run) -> None:
    answer = run("plain")
    assert _has(answer, **SEEN)
    assert _has(answer, source="composefs:first", read_only=True, leaves_nothing=True)
    assert {"redirect_dir=on", "metacopy=on"} <= set(answer["options"])


def test_kernel_that_takes_no_descriptors_gets_paths(run: Run) -> None:
    answer = run("by-path")
    assert _has(answer, **SEEN)
    assert _has(answer, source="composefs:by-path", leaves_nothing=True)


@pytest.mark.parametrize("job", ["many", "many-by-path"])
def test_content_is_found_in_the_last_of_many_directories(run: Run, job: str) -> None:
    assert _has(run(job), **SEEN)


def test_kernel_that_mounts_no_files_gets_a_loop_device_that_goes_with_the_mount(run: Run) -> None:
    if not os.path.exists("/dev/loop-control"):
        pytest.skip("there are no loop devices here")
    answer = run("loop")
    assert _has(answer, **SEEN)
    assert _has(answer, source="composefs:loop", attached=1, after=0)


def test_both_reasons_are_given_when_there_is_no_loop_device_either(run: Run) -> None:
    answer = run("no-loop")
    assert _has(answer, errno="ENOTBLK", leaves_nothing=True)
    assert "Block device required" in answer["text"]
    assert "no loop device could be set up" in answer["text"]


def test_mount_covers_the_one_before(run: Run) -> None:
    assert run("stacked") == {"top": "composefs:two", "mounts": 2, "below": "composefs:one"}


def test_long_name_is_cut(run: Run) -> None:
    assert run("long-name") == {"length": 255}


def test_verity_has_the_kernel_refuse_what_it_cannot_check(run: Run) -> None:
    answer = run("verity")
    assert answer["off"] == ["inline\n", _CONTENT, False]
    assert answer["require"] == answer["try"] == ["inline\n", "EIO", True]


@pytest.mark.parametrize("job", ["verity-unknown", "verity-unknown-by-path"])
def test_kernel_without_verity_fails_only_when_it_is_required(run: Run, job: str) -> None:
    answer = run(job)
    assert _has(answer, errno="EINVAL", external=_CONTENT, leaves_nothing=True)
    assert answer["text"].startswith("mounting the overlay: ")


# Layers by path below /proc do not show whose they are: collections of other tests would keep too much.
@pytest.mark.parametrize("job", ["writable", pytest.param("writable-by-path", marks=pytest.mark.alone)])
def test_changes_go_to_the_upper_directory(run: Run, job: str) -> None:
    changed = _CONTENT + "more"
    assert run(job) == {"external": changed, "upper": changed}


def test_upper_directory_alone_allows_no_changes(run: Run) -> None:
    assert run("upper-read-only") == {"error": "EROFS", "upper": []}


def test_owners_go_through_a_user_namespace(run: Run) -> None:
    assert run("mapped") == {"owners": [100007, 100000]}


def test_file_that_is_no_image(run: Run) -> None:
    answer = run("not-an-image")
    assert answer["text"].startswith("mounting the image with EROFS: ")
    assert answer["leaves_nothing"]


def test_overlay_that_the_kernel_refuses(run: Run) -> None:
    answer = run("broken-overlay")
    assert answer["text"].startswith("mounting the overlay: ")
    assert answer["leaves_nothing"]


def test_mount_point_that_is_none(run: Run) -> None:
    answer = run("nowhere")
    assert _has(answer["missing"], errno="ENOENT", leaves_nothing=True)
    assert answer["missing"]["text"].startswith("opening mount point: missing: ")
    assert _has(answer["image"], errno="ENOTDIR", leaves_nothing=True)


def test_mount_point_may_be_a_link(run: Run) -> None:
    answer = run("link")
    assert _has(answer, **SEEN)
    assert _has(answer, status=0, read_only=True)


def test_mount_composefs(run: Run) -> None:
    answer = run("program")
    assert _has(answer, **SEEN)
    assert _has(answer, status=0, source="composefs:composefs", read_only=False)


def test_mount_composefs_read_only_with_verity_if_possible(run: Run) -> None:
    assert _has(run("program-ro"), status=0, read_only=True, inline="inline\n", external="EIO")


def test_mount_composefs_in_another_namespace(run: Run) -> None:
    assert run("namespace") == {"status": 0, "there": 1, "here": 0}
