"""Programs on a pseudo-terminal of some width."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


def run_on_terminal(
    arguments: Sequence[str], columns: int, cwd: Path, env: Mapping[str, str]
) -> tuple[int, list[str]]:
    """Return the exit status of a program, and the lines that it has written to its terminal."""
    master, slave = pty.openpty()
    try:
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
        with subprocess.Popen(
            arguments, cwd=cwd, env=dict(env), stdin=subprocess.DEVNULL, stdout=slave, stderr=slave
        ) as process:
            os.close(slave)
            slave = -1
            data = b""
            while chunk := _read(master):
                data += chunk
        return process.returncode, data.decode().replace("\r\n", "\n").splitlines()
    finally:
        os.close(master)
        if slave >= 0:
            os.close(slave)


def _read(master: int) -> bytes:
    try:
        return os.read(master, 65536)
    except OSError:  # EIO: nobody has the other end open any more
        return b""


def count_cells(line: str) -> int:
    """Return how many cells a line takes, by the character database of Python."""
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in line
    )
