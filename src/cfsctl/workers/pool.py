"""A pool of forked worker processes.

The parent hands out tasks and collects results; both travel pickled, with a length in front, over one
socket pair per worker. The parent's ends never block, so handing out a task cannot deadlock against a
worker that waits for its result to be taken.

    parent ── task ──▶ worker   reads a task, calls the handler, writes the result, and so on
           ◀─ result ─          until the parent shuts its end down

What is promised:

* A worker is a copy of the parent as it was when the pool was made: what the handler needs is there
  without being sent. Nothing the worker changes comes back but the results.
* No worker outlives the parent, even one that is killed: losing the lifeline pipe is a deadly signal.
* A worker ignores the terminal's interrupt; the parent decides, and closing the pool ends the workers.
* An exception in a handler is raised again in the parent, with its cause; a worker that dies is a
  `WorkerDiedError`. No worker is left behind as a zombie.
* Where forking is unsafe, because the process has other threads, tasks run in the calling process.
"""

from __future__ import annotations

import gc
import os
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from cfsctl import heartbeat
from cfsctl.processors import default_worker_count
from cfsctl.workers.failures import WorkerDiedError
from cfsctl.workers.handlers import close_handler, parents_own
from cfsctl.workers.messages import KIND_VALUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import TracebackType
    from typing import Self

    from cfsctl.workers.process import Worker

T = TypeVar("T")
R = TypeVar("R")

_ABORT_GRACE_S: Final = 0.4
"""Time for workers to end after they were told to leave their work; then they are killed, all of them."""


def is_fork_safe() -> bool:
    """Return whether this process has no thread but the calling one."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        import threading  # only without /proc

        return threading.active_count() == 1


class WorkerPool(Generic[T, R]):
    """Worker processes with one handler each.

    A context manager: leaving it ends the workers, at once if an exception is on its way.
    """

    def __init__(
        self, make_handler: Callable[[], Callable[[T], R]], count: int | None = None, *, window: int = 2
    ) -> None:
        """Start the workers.

        Args:
            make_handler: Called once in each worker; returns the function that does one task. If that
                has a method ``close``, it is called when the worker ends.
            count: Number of processes; 0 runs every task in the calling process, as does a process
                that has other threads; None is `default_worker_count`.
            window: Sum of the weights of the tasks that a worker holds at a time; what exceeds it
                waits for whichever worker is free first.
        """
        self.pending = 0
        self._window = window
        self._queue: deque[tuple[int, bytes]] = deque()
        self._results: list[R] = []
        self._failures: deque[BaseException] = deque()
        self._workers: list[Worker] = []
        self._epoll = select.epoll()
        self._local: _Local[T, R] | None = None
        parents_own.add(self)
        if count is None:
            count = default_worker_count()
        if count == 0 or not is_fork_safe():
            self._local = _Local(make_handler, self._epoll)
            return
        try:
            self._start(make_handler, count)
        except BaseException:
            self.close(abort=True)
            raise

    def _start(self, make_handler: Callable[[], Callable[[T], R]], count: int) -> None:
        # Where tasks run in this process, sockets and pickling take a tenth of a short command to load.
        from cfsctl.workers.process import Worker

        # Collected objects are not touched by a worker's collector, so their pages stay shared.
        thaw = gc.get_freeze_count() == 0
        gc.freeze()
        try:
            for _ in range(count):
                worker = Worker(make_handler)
                self._workers.append(worker)
                self._epoll.register(worker.fileno(), select.EPOLLIN)
        finally:
            if thaw:
                gc.unfreeze()

    @property
    def count(self) -> int:
        """Number of worker processes; 0 when tasks run in the calling process."""
        return len(self._workers)

    def fileno(self) -> int:
        """Return a descriptor that is readable when `poll` has something to do."""
        return self._epoll.fileno()

    def submit(self, task: T, weight: int = 1) -> None:
        """Hand out a task; never blocks.

        Args:
            task: Anything that pickles.
            weight: What the task costs, in the unit of the pool's `window`.

        Raises:
            WorkerDiedError: No worker is left to do it.
        """
        if self._local is not None:
            self.pending += 1
            self._local.submit(task)
            return
        if not self._workers:
            raise WorkerDiedError("no worker process is left")
        import pickle  # see `_start`, where it was loaded

        self.pending += 1
        self._queue.append((weight, pickle.dumps(task, pickle.HIGHEST_PROTOCOL)))
        self._dispatch()

    def poll(self, timeout_s: float | None = None) -> list[R]:
        """Return the available results, in no particular order.

        Args:
            timeout_s: How long to wait for a first result; None waits forever, 0 not at all.

        Raises:
            WorkerDiedError: A worker ended unasked.
            BaseException: What a handler raised; results that came before it were returned before.
        """
        if self._local is not None:
            return self._poll_local()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.pending and not self._results and not self._failures:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._epoll.poll(heartbeat.piece(left))
            heartbeat.beat()
            if ready:
                self._handle(ready)
            elif deadline is not None and time.monotonic() >= deadline:
                break
        return self._take()

    def _poll_local(self) -> list[R]:
        assert self._local is not None
        if not self.pending:
            return []
        self.pending -= 1
        return [self._local.run()]

    def _handle(self, ready: list[tuple[int, int]]) -> None:
        """Move bytes in both directions for the workers that are ready."""
        workers = {worker.fileno(): worker for worker in self._workers}
        for fd, events in ready:
            worker = workers[fd]
            if events & select.EPOLLOUT:
                self._flush(worker)
            if events & ~select.EPOLLOUT:
                self._receive(worker)
        self._dispatch()

    def _receive(self, worker: Worker) -> None:
        try:
            for kind, value in worker.receive():
                if kind == KIND_VALUE:
                    self.pending -= 1
                    self._results.append(cast("R", value))
                else:
                    self._failures.append(cast("BaseException", value))
        except WorkerDiedError as error:
            self._bury(worker)
            self._failures.append(error)

    def _bury(self, worker: Worker) -> None:
        """Remove a worker that has ended, and the tasks it leaves undone; its error is reported for them."""
        self._epoll.unregister(worker.fileno())
        worker.close(_ABORT_GRACE_S)
        self._workers.remove(worker)
        self.pending += 1 - len(worker.weights)
        if not self._workers:
            self.pending -= len(self._queue)
            self._queue.clear()

    def _take(self) -> list[R]:
        """Return the collected results, or raise; an error stays pending until then, even without results."""
        results, self._results = self._results, []
        if not results and self._failures:
            self.pending -= 1
            raise self._failures.popleft()
        return results

    def _dispatch(self) -> None:
        """Give waiting tasks to workers that have room for them."""
        while self._queue and self._workers:
            weight, body = self._queue[0]
            worker = min(self._workers, key=_load)
            if worker.weights and worker.load + weight > self._window:
                return
            self._queue.popleft()
            worker.queue(weight, body)
            self._flush(worker)

    def _flush(self, worker: Worker) -> None:
        waits = worker.flush()
        self._epoll.modify(worker.fileno(), select.EPOLLIN | (select.EPOLLOUT if waits else 0))

    def iter_results(self) -> Iterator[R]:
        """Yield results until no task is pending; more may be submitted in the meantime."""
        while self.pending:
            yield from self.poll()

    def map_unordered(self, tasks: Iterable[T], *, limit: int | None = None) -> Iterator[R]:
        """Yield the result of each task, in no particular order.

        Args:
            tasks: Consumed only as fast as the workers are.
            limit: Tasks pending at a time; None is four for each worker.
        """
        limit = limit or 4 * max(1, self.count)
        for task in tasks:
            self.submit(task)
            while self.pending >= limit:
                yield from self.poll()
        yield from self.iter_results()

    def close(self, *, abort: bool = False) -> None:
        """End the workers and wait for that; may be called again.

        Args:
            abort: Do not let them finish what they are doing.
        """
        workers, self._workers = self._workers, []
        abort = abort or bool(self.pending)
        for worker in workers:
            worker.stop(abort=abort)
        deadline_s = time.monotonic() + _ABORT_GRACE_S
        for worker in workers:
            worker.close(max(0.0, deadline_s - time.monotonic()) if abort else None)
        if self._local is not None:
            self._local.close()
        self._queue.clear()
        self.pending = 0
        self._epoll.close()
        parents_own.discard(self)

    def forget(self) -> None:
        """Close this process' copies of the descriptors without a word to the workers."""
        for worker in self._workers:
            worker.forget()
        self._epoll.close()

    def __enter__(self) -> Self:
        """Return the pool itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        self.close(abort=kind is not None)


def _load(worker: Worker) -> int:
    return worker.load


class _Local(Generic[T, R]):
    """Replaces the workers in processes that must not fork: runs a task when its result is needed."""

    def __init__(self, make_handler: Callable[[], Callable[[T], R]], epoll: select.epoll) -> None:
        self._handler = make_handler()
        self._tasks: deque[T] = deque()
        # Readable for as long as a task waits, so that the pool's descriptor says the same.
        self._event = os.eventfd(0, os.EFD_SEMAPHORE | os.EFD_CLOEXEC)
        epoll.register(self._event, select.EPOLLIN)

    def submit(self, task: T) -> None:
        self._tasks.append(task)
        os.eventfd_write(self._event, 1)

    def run(self) -> R:
        os.eventfd_read(self._event)
        return self._handler(self._tasks.popleft())

    def close(self) -> None:
        if self._event >= 0:
            os.close(self._event)
            self._event = -1
            close_handler(self._handler)
