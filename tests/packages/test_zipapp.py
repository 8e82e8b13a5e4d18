"""The single file: built by make zipapp, run by a Python that has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROUND = Path(__file__).with_name("round.sh")

pytestmark = pytest.mark.packages


def plain_python() -> str:
    """Return a Python of the version of ours that is none of an environment; skip where there is none."""
    name = f"python3.{sys.version_info.minor}"
    base = Path(sys.base_prefix) / "bin" / name
    found = str(base) if base.exists() else shutil.which(name, path="/usr/local/bin:/usr/bin")
    if found is None:
        pytest.skip(f"no {name} outside of the environment")
    return found


def test_zipapp_works_with_a_plain_python(tmp_path: Path) -> None:
    subprocess.run(["make", "-s", "zipapp"], cwd=ROOT, check=True, capture_output=True, timeout=900)
    copy = tmp_path / "cfsctl.pyz"
    shutil.copy(ROOT / "dist" / "cfsctl.pyz", copy)
    python = plain_python()
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "SHIV_ROOT": str(tmp_path / "unpacked"),
    }
    # -I and -S: neither this environment nor the packages of the system are to be of help.
    done = subprocess.run(
        ["sh", ROUND, python, ROOT / "demo", python, "-I", "-S", copy],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("cfsctl works\n")
    tool = subprocess.run(
        [python, "-I", "-S", copy, "mkcomposefs", "--help"], env=environment, capture_output=True, check=True
    )
    assert b"mkcomposefs" in tool.stdout + tool.stderr
