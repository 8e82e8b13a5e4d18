"""What the services of systemd may do is enough for what they do, also for mounts of other namespaces."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.support.programs import CFSCTL, cfsctl

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None or shutil.which("setpriv") is None,
        reason="unshare or setpriv is not installed (package util-linux)",
    ),
]

UNITS = Path(__file__).parents[2] / "packaging" / "systemd"
APART = ("unshare", "--mount", "--propagation", "private")
READ_ONLY = 'mount --bind "$1" "$1" && mount -o remount,bind,ro "$1" && shift && exec "$@"'


def confined(verb: str, repository: Path) -> list[str | Path]:
    """Return the command of a service, for another repository and with the capabilities it has."""
    text = (UNITS / f"cfsctl-{verb}.service").read_text()
    bounding = re.findall(r"^CapabilityBoundingSet=(.*)$", text, re.MULTILINE)
    command = re.findall(r"^ExecStart=cfsctl --system (.*)$", text, re.MULTILINE)
    assert (len(bounding), len(command)) == (1, 1)
    kept = ",".join(["-all", *(f"+{name.removeprefix('CAP_').lower()}" for name in bounding[0].split())])
    arguments = command[0].replace("%%", "%").split()
    limits = ["setpriv", "--bounding-set", kept, "--inh-caps", "-all", "--no-new-privs"]
    return [*limits, CFSCTL, "--repo", repository, *arguments]


@contextmanager
def mounted_elsewhere(repository: Path, name: str, where: Path) -> Iterator[None]:
    """Mount an image in a namespace of its own, which a process with all rights keeps."""
    where.mkdir()
    script = '"$0" --repo "$1" mount "$2" "$3" && echo mounted && exec cat'
    holder = subprocess.Popen(
        [*APART, "sh", "-c", script, str(CFSCTL), str(repository), name, str(where)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stderr is not None
        if "mounted" not in holder.stdout.readline():
            pytest.skip(f"mounting is not possible here: {holder.stderr.read()}")
        yield
        holder.stdin.close()


def make_repository(path: Path) -> Path:
    """Make a repository of two images, of as many files as to tell them apart."""
    repository = path / "repository"
    cfsctl("init", "--insecure", repository)
    for name, count in (("one", 1), ("three", 3)):
        (path / name / "usr").mkdir(parents=True)
        for number in range(count):
            (path / name / "usr" / f"{number}").write_bytes(bytes([count, number]) * 1000)
        cfsctl("--repo", repository, "create-image", path / name, name)
    return repository


def count_objects(repository: Path) -> int:
    return sum(1 for path in (repository / "objects").rglob("*") if path.is_file())


def test_gc_sees_mounts_of_all_namespaces(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    all_of_them = count_objects(repository)
    now = ["--grace", "0s", "--max-delete", "100%"]
    with mounted_elsewhere(repository, "three", tmp_path / "mountpoint"):
        for name in ("one", "three"):
            (repository / "images" / "refs" / name).unlink()
        done = subprocess.run(
            [*confined("gc", repository), *now], capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stderr) == (0, "")
        # The image of one file and its file are gone, those of three files are there.
        assert count_objects(repository) == 4 < all_of_them
        cfsctl("--repo", repository, "fsck")
    subprocess.run([*confined("gc", repository), *now], capture_output=True, check=True)
    assert count_objects(repository) == 0


def test_fsck_needs_to_write_nothing(tmp_path: Path) -> None:
    repository = make_repository(tmp_path)
    command: list[str | Path] = [*APART, "sh", "-c", READ_ONLY, "sh", repository]
    done = subprocess.run(
        [*command, *confined("fsck", repository)], capture_output=True, text=True, check=False
    )
    if "mount:" in done.stderr:
        pytest.skip("mounting is not allowed here")
    assert (done.returncode, done.stderr) == (0, "")
    assert "status: ok" in done.stdout
