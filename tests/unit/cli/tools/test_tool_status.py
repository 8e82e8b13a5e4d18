"""Tools have one exit status for every error, however they are reached."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BIN = Path(sys.executable).parent
GARBAGE = b"no image" * 1000


def status_of(*command: str | Path, cwd: Path) -> int:
    done = subprocess.run(command, cwd=cwd, capture_output=True, check=False, timeout=60)
    assert b"Traceback" not in done.stderr
    assert bool(done.stderr) == bool(done.returncode)
    return done.returncode


CASES = [
    (["composefs-info", "--version"], 0),
    (["composefs-info", "ls", "nothing"], 1),
    (["composefs-info", "dump", "garbage"], 1),
    (["composefs-info", "objects", "garbage"], 1),
    (["composefs-info", "measure-file", "nothing"], 1),
    (["composefs-info", "frobnicate"], 2),
    (["mkcomposefs", "--version"], 0),
    (["mkcomposefs", "nothing", "image"], 1),
    (["mkcomposefs", "--from-file", "garbage", "image"], 1),
    (["mkcomposefs", "--frobnicate"], 2),
    (["composefs-setup-root", "--version"], 0),
    (["composefs-setup-root", "--frobnicate"], 2),
    (["mount.composefs", "--version"], 0),
    (["mount.composefs", "nothing", "nowhere"], 1),
    (["mount.composefs", "garbage", "nowhere"], 1),
    (["mount.composefs", "--frobnicate"], 1),
]


@pytest.mark.parametrize(
    ("command", "status"),
    CASES,
    ids=lambda case: " ".join(map(str, [*case])) if isinstance(case, list) else None,
)
def test_status(command: list[str], status: int, tmp_path: Path) -> None:
    (tmp_path / "garbage").write_bytes(GARBAGE)
    assert status_of(BIN / command[0], *command[1:], cwd=tmp_path) == status
    assert status_of(BIN / "cfsctl", *command, cwd=tmp_path) == status


@pytest.mark.parametrize("tool", ["composefs-info", "mkcomposefs"])
def test_status_behind_global_options(tool: str, tmp_path: Path) -> None:
    arguments = ["ls"] if tool == "composefs-info" else []
    assert status_of(BIN / "cfsctl", "--repo", "x", tool, *arguments, "nothing", cwd=tmp_path) == 1
