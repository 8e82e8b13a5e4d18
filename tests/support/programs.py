"""The installed programs, run as a user runs them."""

from __future__ import annotations

import resource
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import warm_start

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 240
"""Guard against a program that waits for ever."""

CFSCTL = Path(sys.executable).parent / "cfsctl"
"""cfsctl of the environment that runs the tests."""


def require(program: str, package: str | None = None) -> None:
    """Skip the test where a program is missing."""
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed (package {package or program})")


def c_program(name: str) -> str:
    """Return the path of a program of the C project; skip the test where there is none.

    What PATH has under the name may be ours. `tools/c-composefs.sh` unpacks those of another suite of Debian.
    """
    here = Path(__file__).parents[2] / ".c-composefs" / "bin" / name
    for found in (shutil.which(name), str(here)):
        if found is not None and Path(found).exists() and _is_of_the_c_project(found):
            return found
    pytest.skip(f"the C {name} is not installed (package composefs, or tools/c-composefs.sh .c-composefs)")


def find_varlinkctl() -> str:
    """Return the path of systemd's varlinkctl; skip the test where there is none.

    Debian 12 has none; `tools/varlinkctl.sh` unpacks that of another suite.
    """
    here = Path(__file__).parents[2] / ".varlinkctl" / "bin" / "varlinkctl"
    found = shutil.which("varlinkctl") or (str(here) if here.exists() else None)
    if found is None:
        pytest.skip("varlinkctl is not installed (systemd 256 or newer, or tools/varlinkctl.sh .varlinkctl)")
    return found


def _is_of_the_c_project(program: str) -> bool:
    said = subprocess.run([program], capture_output=True, text=True, check=False, timeout=60).stderr
    return "No source path specified" in said or "[ls|objects|dump|missing-objects|measure-file]" in said


def run_program(
    *command: str | Path,
    cwd: str | Path | None = None,
    stdin: bytes | int | None = None,
    stdout: int | None = None,
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[bytes]:
    """Run one of our programs, from a process that has imported it if that comes to the same.

    Args:
        command: Its path and its arguments.
        cwd: Its working directory, ours unless it is given.
        stdin: What comes through its standard input, a pipe, or what that is; /dev/null unless it is given.
        stdout: What its standard output is; a pipe unless it is given.
        env: All of its environment, ours unless it is given.
        limits: Resources of setrlimit(2) and how much of each it may have.
        timeout_s: When it is killed, which fails.
    """
    limits = limits or {}
    done = warm_start.run(
        command, cwd=cwd, stdin=stdin, stdout=stdout, env=env, limits=limits, timeout_s=timeout_s
    )
    if done is not None:
        return done
    streams: dict[str, Any] = {"stdout": subprocess.PIPE if stdout is None else stdout}
    if isinstance(stdin, bytes):
        streams["input"] = stdin
    else:
        streams["stdin"] = subprocess.DEVNULL if stdin is None else stdin

    def limit() -> None:
        for kind, size in limits.items():
            resource.setrlimit(kind, (size, size))

    if limits:
        streams["preexec_fn"] = limit
    return subprocess.run(
        command, cwd=cwd, env=env, timeout=timeout_s, stderr=subprocess.PIPE, check=False, **streams
    )


def run_cfsctl(
    *arguments: str | Path,
    cwd: Path | None = None,
    stdin: bytes = b"",
    env: Mapping[str, str] | None = None,
    limits: Mapping[int, int] | None = None,
    timeout_s: float = TIMEOUT_S,
) -> subprocess.CompletedProcess[str]:
    """Run cfsctl and return its exit status, standard output and standard error."""
    options: dict[str, Any] = {"env": env, "limits": limits, "timeout_s": timeout_s}
    done = run_program(CFSCTL, *arguments, cwd=cwd, stdin=stdin, **options)
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(errors="surrogateescape"), done.stderr.decode()
    )


def cfsctl(*arguments: str | Path, cwd: Path | None = None, stdin: bytes = b"") -> str:
    """Run cfsctl, which must succeed, and return its standard output."""
    done = run_cfsctl(*arguments, cwd=cwd, stdin=stdin)
    assert done.returncode == 0, f"cfsctl {arguments}: exit status {done.returncode}\n{done.stderr}"
    return done.stdout
