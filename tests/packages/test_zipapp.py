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


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    subprocess.run(["make", "-s", "zipapp"], cwd=ROOT, check=True, capture_output=True, timeout=900)
    return Path(shutil.copy(ROOT / "dist" / "cfsctl.pyz", tmp_path_factory.mktemp("zipapp")))


def test_zipapp_is_the_same_when_it_is_built_again(zipapp: Path) -> None:
    subprocess.run(["make", "-s", "zipapp"], cwd=ROOT, check=True, capture_output=True, timeout=900)
    assert (ROOT / "dist" / "cfsctl.pyz").read_bytes() == zipapp.read_bytes()


def other_pythons() -> list[str]:
    """Return Pythons of other versions that are on this machine."""
    names = [f"python3.{minor}" for minor in range(6, 30) if minor != sys.version_info.minor]
    found = [shutil.which(name) for name in names]
    found += [str(path) for path in Path("~/.pyenv/versions").expanduser().glob("3.*/bin/python3")]
    right = f"3.{sys.version_info.minor}."
    return [path for path in found if path is not None and f"/{right}" not in path]


def test_zipapp_names_the_right_python_to_another_one(zipapp: Path) -> None:
    tried = 0
    for python in other_pythons():
        done = subprocess.run([python, zipapp, "--version"], capture_output=True, text=True, check=False)
        if "pyenv: " in done.stderr:  # a stand-in for a version that is not installed
            continue
        tried += 1
        assert done.returncode == 1, python
        first, second = done.stderr.splitlines()
        assert first.startswith(
            f"Error: this cfsctl.pyz is for Python 3.{sys.version_info.minor}, found Python 3."
        )
        assert second.startswith(f"Hint: run it with the right one: python3.{sys.version_info.minor} ")
    if not tried:
        pytest.skip("there is no other Python")


def test_zipapp_without_a_place_to_unpack(zipapp: Path) -> None:
    environment = {"PATH": os.environ["PATH"], "HOME": "/proc/nowhere"}
    done = subprocess.run(
        [plain_python(), zipapp, "--version"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "cannot unpack itself to /proc/nowhere/.shiv" in done.stderr
    assert "SHIV_ROOT=" in done.stderr
