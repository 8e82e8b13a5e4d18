"""How many threads to use, and when they have ended, as the kernel sees it."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import threading

_POLL_S: Final = 0.001

_MAX_THREADS: Final = 4
"""More share one memory bus, and one interpreter lock between their calls."""

_one_is_enough = False


def use_one_thread() -> None:
    """Have `thread_count` return 1 from now on: this process is one of several that share the processors."""
    global _one_is_enough  # noqa: PLW0603 - a property of the process
    _one_is_enough = True


def thread_count() -> int:
    """Return how many threads are good for one long computation in this process."""
    return 1 if _one_is_enough else min(len(os.sched_getaffinity(0)), _MAX_THREADS)


def join(thread: threading.Thread, timeout_s: float) -> None:
    """Wait for a thread to end, and for the kernel to know of it.

    `Thread.join` returns when the thread has run its last Python code. The kernel's thread ends a moment
    later, on a loaded machine many milliseconds. Until then the process must not fork.

    Args:
        thread: Was started.
        timeout_s: How long to wait; a thread that is still there then is left alone.
    """
    deadline_s = time.monotonic() + timeout_s
    thread.join(max(0.0, timeout_s))
    path = f"/proc/self/task/{thread.native_id}"
    while not thread.is_alive() and os.path.exists(path) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
