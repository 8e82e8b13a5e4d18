"""One call in a process of its own, while the calling one does something else."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, TypeVar

from cfsctl.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

R = TypeVar("R")


@contextlib.contextmanager
def run_in_fork(function: Callable[[], R], *, forks: bool = True) -> Iterator[Callable[[], R]]:
    """Call a function in a forked process, which ends with the block.

    Args:
        function: What to call; its result must pickle.
        forks: Whether to; otherwise, and in a process that has other threads, it is called in this one as
            soon as its result is asked for.

    Yields:
        What waits for the result and returns it, or raises what the function raised; to be called once.
    """
    pool: WorkerPool[None, R] = WorkerPool(lambda: lambda _: function(), int(forks))
    with pool:
        pool.submit(None)

        def result() -> R:
            (found,) = pool.poll()
            return found

        yield result
