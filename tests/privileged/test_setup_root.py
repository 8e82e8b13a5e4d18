"""composefs-setup-root on this kernel, each time in a mount namespace of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.support.programs import cfsctl

pytestmark = [
    pytest.mark.privileged,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        shutil.which("unshare") is None, reason="unshare is not installed (package util-linux)"
    ),
]

_ROOT = Path(__file__).parents[2]
READ_ONLY = "Read-only file system"


class Disk(NamedTuple):
    """A directory whose ``sysroot`` is what a disk would be."""

    path: Path
    image: str

    @property
    def karg(self) -> str:
        return f"composefs.digest=?v1-sha256-12:{self.image}"

    def run(self, *arguments: str, config: str = "", older: bool = False) -> dict[str, Any]:
        """Run composefs-setup-root; return what is seen then, and what it said as ``said``."""
        (self.path / "conf.toml").write_text(config)
        command = ["unshare", "--mount", "--propagation", "private", sys.executable]
        command += ["-m", "tests.privileged.setup_root_jobs", os.fspath(self.path)]
        command += ["--config", os.fspath(self.path / "conf.toml"), *arguments]
        environment = os.environ | {"TMPDIR": os.fspath(self.path)} | ({"OLDER_KERNEL": "1"} if older else {})
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, cwd=_ROOT, env=environment
        )
        assert done.returncode == 0, done.stderr
        return {**json.loads(done.stdout), "said": done.stderr}

    def boot(self, *, config: str = "", older: bool = False) -> dict[str, Any]:
        seen = self.run("--cmdline", f"quiet {self.karg} rw", config=config, older=older)
        assert seen["status"] == 0, seen["said"]
        return seen

    @property
    def state(self) -> Path:
        return self.path / "sysroot/state/deploy" / self.image


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    tree = tmp_path / "tree"
    for name in ("usr/bin", "etc", "var", "boot", "sysroot", "run"):
        (tree / name).mkdir(parents=True)
    (tree / "etc/hostname").write_text("composed\n")
    (tree / "usr/bin/tool").write_text("a file of some size\n" * 20)
    repository = tmp_path / "sysroot/composefs"
    repository.parent.mkdir()
    cfsctl("init", "--insecure", "--algorithm=fsverity-sha256-12", repository)
    image = cfsctl("--repo", repository, "create-image", "--bootable", tree, "system").strip()
    return Disk(tmp_path, image.rpartition(":")[2])


@pytest.mark.parametrize("older", [False, True], ids=["by descriptor", "by path"])
def test_image_becomes_the_root(disk: Disk, *, older: bool) -> None:
    (disk.state / "var").mkdir(parents=True)
    (disk.state / "var/kept").write_text("kept\n")
    seen = disk.boot(older=older)
    assert seen["etc/hostname"] == "composed\n"
    assert seen["usr/bin/tool"] == "a file of some size\n" * 20
    assert seen["var/kept"] == "kept\n"
    assert '"fsverity-sha256-12"' in seen["sysroot/composefs/meta.json"]
    assert (seen["write usr/new"], seen["write etc/new"], seen["write var/new"]) == (READ_ONLY, "", "")
    assert (disk.state / "etc/upper/new").read_text() == "written\n"
    assert (disk.state / "var/new").read_text() == "written\n"
    assert disk.state.joinpath("etc/upper").stat().st_mode & 0o7777 == 0o755
    kinds = [line.rpartition(" ")[0].split(" ")[0:2] for line in seen["mounts"]]
    assert [place for place, _ in kinds][1:] == ["/", "/sysroot", "/etc", "/var"]


@pytest.mark.parametrize(
    "older", [False, pytest.param(True, marks=pytest.mark.deep)], ids=["by descriptor", "by path"]
)
@pytest.mark.parametrize(
    ("config", "writable", "kept"),
    [
        ('etc.mount = "none"\nvar.mount = "none"', (False, False, False), (False, False)),
        ("etc.transient = true\nvar.transient = true", (False, True, True), (False, False)),
        ('etc.mount = "bind"\nvar.mount = "overlay"', (False, True, True), (False, False)),
        ('root.transient = true\netc.mount = "none"\nvar.mount = "none"', (True, True, True), (False, False)),
        ("root.transient = true", (True, True, True), (True, True)),
    ],
)
def test_configuration(
    disk: Disk, config: str, writable: tuple[bool, ...], kept: tuple[bool, bool], *, older: bool
) -> None:
    seen = disk.boot(config=config, older=older)
    places = ("usr", "etc", "var")
    assert tuple(seen[f"write {place}/new"] == "" for place in places) == writable
    assert ((disk.state / "etc/upper/new").exists(), (disk.state / "var/new").exists()) == kept


def test_missing_state_is_made_and_said(disk: Disk) -> None:
    assert "which was missing" in disk.boot()["said"]
    assert "which was missing" not in disk.boot()["said"]


def test_next_argument_is_tried(disk: Disk) -> None:
    other = "composefs=?" + "ab" * 64
    seen = disk.run("--cmdline", f"composefs=?zz {other} {disk.karg}")
    assert seen["status"] == 0
    assert f"image {'ab' * 64} not found, trying next karg" in seen["said"]


@pytest.mark.parametrize(
    ("cmdline", "status", "said"),
    [
        ("quiet rw", 17, "no composefs karg found in kernel cmdline"),
        ("composefs=foo", 17, "invalid composefs= digest length: 3"),
        ("composefs.digest=?v1-sha256-12:" + "00" * 32, 17, "no composefs image found (tried: 000"),
        ("composefs=" + "00" * 32 + " KARG", 17, "this one does not"),
        ("composefs=HEX", 1, "erity"),
    ],
)
def test_nothing_is_mounted_after_an_error(disk: Disk, cmdline: str, status: int, said: str) -> None:
    cmdline = cmdline.replace("KARG", disk.karg).replace("HEX", disk.image)
    seen = disk.run("--cmdline", cmdline)
    assert said in seen["said"]
    assert seen["said"].splitlines()[-1].startswith("composefs-setup-root: ")
    assert seen["status"] == status
    assert len(seen["mounts"]) == 1


def test_half_a_root_is_taken_away_again(disk: Disk) -> None:
    """An error after the root was attached."""
    disk.state.mkdir(parents=True)
    (disk.state / "etc").mkdir()
    (disk.state / "etc/upper").write_text("in the way")
    seen = disk.run("--cmdline", disk.karg)
    assert seen["status"] != 0
    assert len(seen["mounts"]) == 1


def test_image_without_etc(disk: Disk, tmp_path: Path) -> None:
    tree = tmp_path / "bare"
    for name in ("usr", "var", "boot", "sysroot"):
        (tree / name).mkdir(parents=True)
    image = cfsctl("--repo", tmp_path / "sysroot/composefs", "create-image", "--bootable", tree).strip()
    seen = disk.run("--cmdline", "composefs=?" + image.rpartition(":")[2])
    assert "mounting /etc (overlay): No such file or directory" in seen["said"]
    assert len(seen["mounts"]) == 1


def test_repository_that_is_missing(disk: Disk) -> None:
    shutil.rmtree(disk.path / "sysroot/composefs")
    seen = disk.run("--cmdline", disk.karg)
    assert (seen["status"], seen["said"].count("\n")) == (17, 1)
    assert "sysroot/composefs: No such file or directory" in seen["said"]


def test_directory_in_place_of_the_image(disk: Disk) -> None:
    seen = disk.run("--cmdline", disk.karg, "--root-fs", os.fspath(disk.path / "tree"))
    assert seen["status"] == 0
    assert seen["etc/hostname"] == "composed\n"


def test_configuration_that_cannot_be_used(disk: Disk) -> None:
    seen = disk.run("--cmdline", disk.karg, config='etc.mount = "sideways"')
    assert seen["said"].count("\n") == 1
    assert "conf.toml: etc.mount: expected one of none, bind, overlay, transient" in seen["said"]
    assert seen["status"] == 16
