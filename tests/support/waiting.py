"""Waits for what another process does, which nothing announces."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable

GUARD_S = 240
"""More than a busy machine takes for anything."""


def wait_until(condition: Callable[[], object], process: subprocess.Popen[bytes] | None = None) -> None:
    """Return when a condition holds; fail if it never does, or if the process that has to see to it ends."""
    deadline_s = time.monotonic() + GUARD_S
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline_s, "it did not happen"
        time.sleep(0.01)


def has_ended(pid: int | str) -> bool:
    """Tell whether a process is gone, or waits for its parent to ask how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return True
    return state in "ZX"
