"""The programs that take turns."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from collections.abc import Mapping

PEER_VARIABLE = "CFSCTL_PEER"
TIMEOUT_S = 120


@dataclass(frozen=True)
class Program:
    """A cfsctl.

    Attributes:
        name: For messages.
        path: The program.
        is_original: Whether it is the original, which can do less.
        environment: What is set for it besides the environment of the test.
    """

    name: str
    path: str
    is_original: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """Start a command in a process group of its own."""
        return subprocess.Popen(
            [self.path, *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            text=True,
            errors="replace",
            start_new_session=True,
            env=os.environ | {"RUST_BACKTRACE": "0"} | dict(self.environment),
        )

    def run(self, *arguments: str, expected: tuple[int, ...] = (0,)) -> str:
        """Run a command, which must exit with one of the expected codes; return its standard output."""
        return finish(self, self.start(*arguments), expected)

    def kill(self, after_s: float, *arguments: str) -> bool:
        """Start a command and kill it with all its processes; return whether it had not ended by itself."""
        process = self.start(*arguments)
        time.sleep(after_s)
        was_running = process.poll() is None
        if was_running:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=TIMEOUT_S)
        return was_running


def finish(program: Program, process: subprocess.Popen[str], expected: tuple[int, ...] = (0,)) -> str:
    """Wait for a command that was started, and return its standard output."""
    try:
        output, errors = process.communicate(timeout=TIMEOUT_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert process.returncode in expected, (
        f"{program.name} {process.args!r}: exit status {process.returncode}\n{output}\n{errors}"
    )
    return output


def find_programs() -> tuple[Program, Program]:
    """Return this program and the other one."""
    ours = Program("ours", str(CFSCTL))
    peer = os.environ.get(PEER_VARIABLE)
    if peer:
        return ours, Program("original", peer, is_original=True)
    return ours, Program("other", str(CFSCTL), environment={"CFSCTL_FSYNC": "per-object", "LC_ALL": "C"})
