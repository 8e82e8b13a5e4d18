"""The installed programs, run as a user runs them."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

CFSCTL = Path(sys.executable).parent / "cfsctl"
"""cfsctl of the environment that runs the tests."""


def require(program: str, package: str | None = None) -> None:
    """Skip the test where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (package {package or program})")


def run_cfsctl(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    timeout_s: float = 120,
) -> subprocess.CompletedProcess[str]:
    """Run cfsctl and return its exit status, standard output and standard error."""
    done = subprocess.run(
        [CFSCTL, *arguments],
        cwd=cwd,
        input=stdin,
        capture_output=True,
        check=False,
        timeout=timeout_s,
        env=env,
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()
    )


def cfsctl(*arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """Run cfsctl, which must succeed, and return its standard output."""
    done = run_cfsctl(*arguments, cwd=cwd, stdin=stdin)
    assert done.returncode == 0, f"cfsctl {arguments}: exit status {done.returncode}\n{done.stderr}"
    return done.stdout
