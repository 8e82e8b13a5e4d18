"""Programs on a terminal of a given width."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import termios
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


class Screen(NamedTuple):
    """What a program has written to its terminal, and its exit status."""

    status: int
    lines: list[str]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)


def run_on_terminal(
    arguments: Sequence[str | Path], columns: int, *, place: Path, environment: dict[str, str] | None = None
) -> Screen:
    """Run a program whose output, errors included, goes to a terminal."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("CFSCTL_", "COLUMNS"))}
    with subprocess.Popen(
        [os.fspath(word) for word in arguments],
        cwd=place,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env={**kept, "TERM": "xterm", **(environment or {})},
    ) as process:
        os.close(slave)
        written = bytearray()
        while data := _read(master):
            written += data
        os.close(master)
        status = process.wait(timeout=120)
    return Screen(status, written.decode().replace("\r\n", "\n").rstrip("\n").split("\n"))


def _read(fd: int) -> bytes:
    try:
        return os.read(fd, 1 << 16)
    except OSError:  # the other end is closed
        return b""


def count_cells(text: str) -> int:
    """Return how many cells of a terminal a text without escape sequences takes."""
    assert text.isprintable(), text
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text
    )
