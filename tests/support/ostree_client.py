"""The real `ostree` client, for tests."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path


def require_ostree() -> None:
    """Skip the test where there is no client."""
    if shutil.which("ostree") is None:
        pytest.skip("ostree is not installed (package ostree)")


def run_ostree(repository: Path, *arguments: str) -> str:
    """Run a command on a repository and return what it prints."""
    done = subprocess.run(
        ["ostree", f"--repo={repository}", *arguments],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    )
    return done.stdout
