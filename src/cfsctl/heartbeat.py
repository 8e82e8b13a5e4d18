"""A sign of life from code that waits: who started an operation hears of it, and can end it.

Whatever waits for a server, a lock or a worker process waits in short pieces and calls `beat` between them.
In a thread whose operation is watched, that calls the watcher, several times a second; elsewhere it does
nothing. What the watcher raises ends the operation, as an error at that place would.
"""

from __future__ import annotations

import time
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

INTERVAL_S: Final = 0.1
"""Longest piece of a wait, and shortest time between two calls of the watcher."""


class _Watch:
    __slots__ = ("companions", "is_ended", "last_s", "tell")

    def __init__(self, tell: Callable[[], object]) -> None:
        self.tell = tell
        self.companions: list[Callable[[], object]] = []
        self.last_s = time.monotonic()
        self.is_ended = False


_WATCH: Final[ContextVar[_Watch | None]] = ContextVar("watch", default=None)


@contextmanager
def watched(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` with each beat within the block, in this thread only."""
    token = _WATCH.set(_Watch(tell))
    try:
        yield
    finally:
        _WATCH.reset(token)


@contextmanager
def accompanied(tell: Callable[[], object]) -> Iterator[None]:
    """Call `tell` before the watcher with each beat within the block; not at all if nobody watches."""
    watch = _WATCH.get()
    if watch is None:
        yield
        return
    watch.companions.append(tell)
    try:
        yield
    finally:
        watch.companions.pop()


def beat() -> None:
    """Call the watcher, if there is one and it is time."""
    watch = _WATCH.get()
    if watch is None:
        return
    now_s = time.monotonic()
    if now_s - watch.last_s >= INTERVAL_S:
        watch.last_s = now_s
        for tell in watch.companions:
            tell()
        watch.tell()


def end() -> None:
    """Note that the watcher ends the operation, so that nothing is waited for any more."""
    watch = _WATCH.get()
    if watch is not None:
        watch.is_ended = True


def is_ended() -> bool:
    """Return whether the watcher ends this thread's operation."""
    watch = _WATCH.get()
    return watch is not None and watch.is_ended


def is_watched() -> bool:
    """Return whether this thread's operation is watched."""
    return _WATCH.get() is not None


def piece(timeout_s: float | None) -> float | None:
    """Return how long to wait in one go, of a time that None makes endless; all of it if nobody watches."""
    if _WATCH.get() is None:
        return timeout_s
    return INTERVAL_S if timeout_s is None else min(timeout_s, INTERVAL_S)


def sleep(seconds: float) -> None:
    """Wait, with beats."""
    end_s = time.monotonic() + seconds
    while (left_s := end_s - time.monotonic()) > 0:
        time.sleep(piece(left_s) or 0.0)
        beat()


def forget() -> None:
    """Watch nothing from now on: in a forked process, the watcher is the parent's."""
    _WATCH.set(None)
