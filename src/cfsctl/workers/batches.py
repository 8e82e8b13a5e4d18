"""Tasks that take long: what one has done before it failed is kept, and others can see how far it is.

`WorkerPool` runs tasks; this is for tasks of many parts, each of which is worth something by itself. A
handler that fails in the middle raises `PartlyDoneError` from the error, with its result so far. The caller
gets the error, and what was done by all tasks from `Batches.drain`.
"""

from __future__ import annotations

import mmap
import struct
import time
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from cfsctl.workers.failures import WorkerDiedError
from cfsctl.workers.pool import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

T = TypeVar("T")
R = TypeVar("R")

_COUNTER: Final = struct.Struct("=Q")


class PartlyDoneError(Exception):
    """A task that ended early; its cause is the error.

    Attributes:
        result: What the task had done before.
    """

    def __init__(self, result: object) -> None:
        """Take what the caller of the task gets as its result."""
        super().__init__()
        self.result = result


class Batches(Generic[T, R]):
    """Workers with a few tasks each, whose results survive their errors.

    A context manager: leaving it ends the workers, at once if an exception is on its way.
    """

    def __init__(
        self, make_handler: Callable[[], Callable[[T], R]], count: int | None, *, held: int = 2
    ) -> None:
        """Start the workers.

        Args:
            make_handler: As for `WorkerPool`.
            count: Number of processes, as for `WorkerPool`.
            held: Tasks handed out per worker: those in work and those that wait.
        """
        self._pool: WorkerPool[T, R] = WorkerPool(make_handler, count, window=held)
        self._held = held
        self._done: list[R] = []

    @property
    def count(self) -> int:
        """Number of workers that tasks are cut for; at least one."""
        return max(1, self._pool.count)

    @property
    def pending(self) -> int:
        """Tasks that were submitted and whose results were not returned."""
        return self._pool.pending

    @property
    def has_room(self) -> bool:
        """Whether a further task would not wait for long."""
        return self._pool.pending < self._held * self.count

    def submit(self, task: T) -> None:
        """Hand out a task; never blocks."""
        self._pool.submit(task)

    def poll(self, timeout_s: float | None = None) -> list[R]:
        """Return the available results; see `WorkerPool.poll`.

        Raises:
            WorkerDiedError: A worker ended unasked.
            Exception: What a task failed with; what it had done is returned by `drain`.
        """
        try:
            return self._pool.poll(timeout_s)
        except PartlyDoneError as failed:
            self._done.append(cast("R", failed.result))
            raise failed.__cause__ or failed from None

    def drain(self, timeout_s: float | None = None) -> list[R]:
        """Return what was done before an error, and what is done soon after it; further errors are ignored.

        Args:
            timeout_s: How long to wait for tasks that are in work; None waits for all of them.
        """
        deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
        while self._pool.pending:
            left = None if deadline_s is None else deadline_s - time.monotonic()
            if left is not None and left <= 0:
                break
            try:
                self._done += self.poll(left)
            except WorkerDiedError:
                break
            except Exception:  # noqa: BLE001, S110 - the first error is the one that is reported
                pass
        done, self._done = self._done, []
        return done

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self._pool.__exit__(kind, value, trace)


class SharedCounters:
    """Numbers in memory that workers share with the process that made them: how far each task is."""

    def __init__(self, count: int) -> None:
        """Begin with zeros; to be made before the workers are."""
        self._memory = mmap.mmap(-1, max(1, count) * _COUNTER.size)

    def writer(self, index: int) -> Callable[[int], None]:
        """Return what sets a number; for the one worker that has this task."""
        return lambda value: _COUNTER.pack_into(self._memory, index * _COUNTER.size, value)

    def read(self, index: int) -> int:
        """Return a number as it is now."""
        value: int = _COUNTER.unpack_from(self._memory, index * _COUNTER.size)[0]
        return value
