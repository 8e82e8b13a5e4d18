"""The loggers of the library: programs hear what it has to say by `logging`, under the name ``cfsctl``.

``cfsctl.http`` says what is asked of servers and what they answer, at the level DEBUG, and with the header
fields at `TRACE`; other modules are called as they are. Without a handler of the program nothing is printed.

Importing `logging` takes longer than many commands run, so nothing here does without something to say.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable

ROOT: Final = "cfsctl"

TRACE: Final = 5
"""A level below DEBUG."""

_prepare: list[Callable[[], object]] = []


def get_logger(name: str) -> logging.Logger:
    """Return a logger of this library; the first one brings along what a program has prepared."""
    import logging

    root = logging.getLogger(ROOT)
    if not root.handlers:
        root.addHandler(logging.NullHandler())
    while _prepare:
        _prepare.pop()()
    return logging.getLogger(name)


def prepare(call: Callable[[], object]) -> None:
    """Call this before the first logger is used, to add handlers; instead of what was prepared before."""
    _prepare[:] = [call]


def find_listened(name: str, level: int) -> logging.Logger | None:
    """Return a logger if somebody listens to it at this level, cheaply where nobody does."""
    module = sys.modules.get("logging")
    if module is None:
        return None
    logger: logging.Logger = module.getLogger(name)
    return logger if logger.isEnabledFor(level) else None
