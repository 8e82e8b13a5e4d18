"""Runs cfsctl, and kills it before its Nth call that changes a file system; run as a program.

usage: python -m tests.support.kill_at N ARGUMENTS...
"""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from cfsctl.cli.app import main
from cfsctl.linux import files

if TYPE_CHECKING:
    from collections.abc import Callable

CHANGING = ("mkdir", "rename", "link", "symlink", "unlink", "rmdir", "fsync", "write", "open")


class Countdown:
    """Counts calls, and kills the process when it has counted far enough."""

    def __init__(self, left: int) -> None:
        self._left = left
        self._pid = os.getpid()

    def wrap(self, function: Callable[..., object], *, is_open: bool) -> Callable[..., object]:
        def call(*arguments: object, **options: object) -> object:
            if os.getpid() == self._pid and (not is_open or _creates(*arguments)):
                if self._left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                self._left -= 1
            return function(*arguments, **options)

        return call


def _creates(*arguments: object) -> bool:
    flags = arguments[1] if len(arguments) > 1 else 0
    return isinstance(flags, int) and bool(flags & (os.O_CREAT | os.O_TMPFILE & ~os.O_DIRECTORY))


def run() -> int:
    """Run cfsctl with the rest of the arguments."""
    countdown = Countdown(int(sys.argv[1]))
    for name in CHANGING:
        vars(os)[name] = countdown.wrap(getattr(os, name), is_open=name == "open")
    vars(files)["link_fd"] = countdown.wrap(vars(files)["link_fd"], is_open=False)
    return main(sys.argv[2:])


if __name__ == "__main__":
    sys.exit(run())
