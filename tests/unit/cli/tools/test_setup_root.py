"""The program composefs-setup-root and its zipapp, as far as nothing is mounted."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.programs import CFSCTL
from tools import setup_root_zipapp


@pytest.fixture(scope="module")
def zipapp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("zipapp") / "composefs-setup-root.pyz"
    setup_root_zipapp.build(path)
    return path


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd="/")


def run_zipapp(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return run(Path(sys.executable).resolve(), "-IS", path, *arguments)


def test_entry_point_and_zipapp_are_the_same_program(zipapp: Path) -> None:
    installed = run(CFSCTL.with_name("composefs-setup-root"), "--help")
    assert installed.returncode == 0
    assert installed.stdout == run_zipapp(zipapp, "--help").stdout
    assert "--sysroot DIR" in installed.stdout


def test_zipapp_is_reproducible(zipapp: Path, tmp_path: Path) -> None:
    again = tmp_path / "again.pyz"
    setup_root_zipapp.build(again)
    assert again.read_bytes() == zipapp.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (
            ["--cmdline", "quiet", "--sysroot", "/tmp", "--config", "/none"],
            17,
            "no composefs karg found in kernel cmdline",
        ),
        (["--cmdline", "composefs=x", "--sysroot", "/none"], 17, "opening /none: No such file or directory"),
        (["--sideways"], 2, "option --sideways not recognized"),
    ],
)
def test_errors_are_one_line(zipapp: Path, arguments: list[str], status: int, said: str) -> None:
    done = run_zipapp(zipapp, *arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.startswith(f"composefs-setup-root: {said}")
    assert done.stderr.count("\n") == 1


def test_arguments_of_the_original_without_a_use_are_accepted(zipapp: Path) -> None:
    done = run_zipapp(zipapp, "--target", "/x", "--sysroot", "/tmp", "--cmdline", "quiet", "init", "more")
    assert "no composefs karg found" in done.stderr


def test_listed_files_are_enough(zipapp: Path) -> None:
    """What an initramfs needs is in the list: all that the program has loaded, and the interpreter."""
    listed = run_zipapp(zipapp, "--list-files").stdout.splitlines()
    assert str(Path(sys.executable).resolve()) in listed
    assert all(Path(path).is_file() for path in listed)
    names = {Path(path).stem for path in listed}
    assert {"os", "codecs", "zipimport", "runpy", "dataclasses", "tomllib"} - names <= {
        "zipimport",
        "tomllib",
    }
    # Under the name that the loader looks for.
    assert any(name.startswith("libc.so.") for name in map(os.path.basename, listed))
    for heavy in ("click", "requests", "zlib", "lzma", "ssl", "hashlib", "tempfile"):
        assert not any(name.split(".")[0].lstrip("_") == heavy for name in names)
