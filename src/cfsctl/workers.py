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

import contextlib
import fcntl
import gc
import io
import os
import pickle
import select
import signal
import socket
import struct
import time
import weakref
from collections import deque
from typing import TYPE_CHECKING, Final, Generic, TypeVar, cast

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from types import FrameType, TracebackType
    from typing import NoReturn, Self

    _Reduction = tuple[Callable[..., BaseException], tuple[object, ...]]

T = TypeVar("T")
R = TypeVar("R")

_FRAME = struct.Struct("<QB")
"""Header of a message: bytes of the pickle that follows, kind."""

_KIND_VALUE: Final = 0
_KIND_ERROR: Final = 1

_RECEIVE_BYTES: Final = 1 << 18
_GRACE_S: Final = 5.0
"""Time for a worker to end after it was told to; then it is killed."""

_MAX_DEFAULT_WORKERS: Final = 8
"""More workers than this are not started unasked; storage is the limit then."""

_LIFELINE_SIGNAL: Final = signal.SIGIO
"""Sent to a worker when the parent's end of the lifeline closes; its default action ends the process."""

_open_pools: weakref.WeakSet[WorkerPool[object, object]] = weakref.WeakSet()
"""Pools of this process; a new worker closes its copies of their descriptors."""


class WorkerDiedError(CfsError):
    """A worker process ended while it had work to do."""


class WorkerFailedError(CfsError):
    """A handler raised something that cannot travel between processes; the text says what."""


class _Stopped(BaseException):
    """Raised in a worker by the signal that ends it, so that its clean-up runs."""


def default_worker_count() -> int:
    """Return how many workers keep the processors busy that this process may use."""
    return min(len(os.sched_getaffinity(0)), _MAX_DEFAULT_WORKERS)


def is_fork_safe() -> bool:
    """Return whether this process has no thread but the calling one."""
    try:
        return len(os.listdir("/proc/self/task")) == 1
    except OSError:
        import threading  # noqa: PLC0415 - only without /proc

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
        self._workers: list[_Worker] = []
        self._epoll = select.epoll()
        self._local: _Local[T, R] | None = None
        _open_pools.add(cast("WorkerPool[object, object]", self))
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
        # Collected objects are not touched by a worker's collector, so their pages stay shared.
        thaw = gc.get_freeze_count() == 0
        gc.freeze()
        try:
            for _ in range(count):
                worker = _Worker(make_handler)
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
        self.pending += 1
        self._queue.append((weight, pickle.dumps(task, pickle.HIGHEST_PROTOCOL)))
        self._dispatch()

    def poll(self, timeout_s: float | None = None) -> list[R]:
        """Return the results that are there, in no particular order.

        Args:
            timeout_s: How long to wait for a first result; None waits for ever, 0 not at all.

        Raises:
            WorkerDiedError: A worker ended unasked.
            BaseException: What a handler raised; results that came before it were returned before.
        """
        if self._local is not None:
            return self._poll_local()
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while self.pending and not self._results and not self._failures:
            left = None if deadline is None else max(0.0, deadline - time.monotonic())
            ready = self._epoll.poll(left)
            if not ready:
                break
            self._handle(ready)
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

    def _receive(self, worker: _Worker) -> None:
        try:
            for kind, value in worker.receive():
                if kind == _KIND_VALUE:
                    self.pending -= 1
                    self._results.append(cast("R", value))
                else:
                    self._failures.append(cast("BaseException", value))
        except WorkerDiedError as error:
            self._bury(worker)
            self._failures.append(error)

    def _bury(self, worker: _Worker) -> None:
        """Forget a worker that has ended, and the tasks that nobody will do; its error stands for them."""
        self._epoll.unregister(worker.fileno())
        worker.close(abort=True)
        self._workers.remove(worker)
        self.pending += 1 - len(worker.weights)
        if not self._workers:
            self.pending -= len(self._queue)
            self._queue.clear()

    def _take(self) -> list[R]:
        """Return what there is, or raise: an error is pending until then, even if all results are out."""
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

    def _flush(self, worker: _Worker) -> None:
        waits = worker.flush()
        self._epoll.modify(worker.fileno(), select.EPOLLIN | (select.EPOLLOUT if waits else 0))

    def iter_results(self) -> Iterator[R]:
        """Yield results until no task is pending; more may be submitted meanwhile."""
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
        """End the workers and wait for that; harmless when repeated.

        Args:
            abort: Do not let them finish what they are doing.
        """
        workers, self._workers = self._workers, []
        abort = abort or bool(self.pending)
        for worker in workers:
            worker.stop(abort=abort)
        for worker in workers:
            worker.close(abort=abort)
        if self._local is not None:
            self._local.close()
        self._queue.clear()
        self.pending = 0
        self._epoll.close()
        _open_pools.discard(cast("WorkerPool[object, object]", self))

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


class _Local(Generic[T, R]):
    """Stands in for the workers where there are none: runs a task when its result is asked for."""

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
            _close_handler(self._handler)


def _close_handler(handler: object) -> None:
    close = getattr(handler, "close", None)
    if close is not None:
        close()


def _load(worker: _Worker) -> int:
    return worker.load


class _Worker:
    """The parent's side of one worker process.

    Attributes:
        load: Sum of the weights of the tasks it holds.
        weights: Those weights, oldest first.
    """

    def __init__(self, make_handler: Callable[[], Callable[[T], R]]) -> None:
        """Fork the process."""
        self.load = 0
        self.weights: deque[int] = deque()
        self._outgoing = bytearray()
        self._incoming = bytearray()
        self._socket, remote = socket.socketpair()
        lifeline_read, self._lifeline = os.pipe2(os.O_CLOEXEC)
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            self._pid = os.fork()
            if self._pid == 0:
                self.forget()
                _run_worker(make_handler, remote, lifeline_read, blocked)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            remote.close()
            os.close(lifeline_read)
        self._socket.settimeout(0)

    def fileno(self) -> int:
        return self._socket.fileno()

    def forget(self) -> None:
        self._socket.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def queue(self, weight: int, body: bytes) -> None:
        self.load += weight
        self.weights.append(weight)
        self._outgoing += _FRAME.pack(len(body), _KIND_VALUE)
        self._outgoing += body

    def flush(self) -> bool:
        """Send what can be sent; return whether something is left."""
        outgoing = self._outgoing
        while outgoing:
            try:
                sent = self._socket.send(outgoing)
            except BlockingIOError:
                return True
            except (BrokenPipeError, ConnectionResetError):
                # Dead; what it had to say comes from `receive`, and then the error.
                outgoing.clear()
                return False
            del outgoing[:sent]
        return False

    def receive(self) -> Iterator[tuple[int, object]]:
        """Yield the kind and value of each message that has come in.

        Raises:
            WorkerDiedError: The worker has ended.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:
            raise self._explain_death()
        self._incoming += data
        yield from self._iter_frames()

    def _iter_frames(self) -> Iterator[tuple[int, object]]:
        incoming = self._incoming
        while len(incoming) >= _FRAME.size:
            length, kind = _FRAME.unpack_from(incoming)
            end = _FRAME.size + length
            if len(incoming) < end:
                return
            with memoryview(incoming) as view, view[_FRAME.size : end] as body:
                value = pickle.loads(body)  # noqa: S301 - written by our own forked process
            del incoming[:end]
            self.load -= self.weights.popleft()
            yield kind, value

    def _explain_death(self) -> WorkerDiedError:
        status = self._wait(_GRACE_S)
        if status is None:
            return WorkerDiedError(f"worker process {self._pid} closed its connection")
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return WorkerDiedError(f"worker process ended with exit code {code} before its work was done")
        name = signal.Signals(-code).name
        hint = "The machine may be out of memory." if -code == signal.SIGKILL else None
        return WorkerDiedError(f"worker process was ended by {name} before its work was done", hint=hint)

    def stop(self, *, abort: bool) -> None:
        """Tell the worker to end: at the next chance, or now."""
        if self._pid and abort:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR if abort else socket.SHUT_WR)

    def close(self, *, abort: bool) -> None:
        """Wait for the worker to end, kill it if it does not, and let its resources go."""
        if self._pid and self._wait(_GRACE_S if abort else None) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._wait(None)
        self.forget()

    def _wait(self, timeout_s: float | None) -> int | None:
        """Return the wait status of the process, or None after the timeout; None waits for ever."""
        if not self._pid:
            return 0
        pause = 0.0005
        deadline = None if timeout_s is None else time.monotonic() + timeout_s
        while True:
            try:
                pid, status = os.waitpid(self._pid, 0 if deadline is None else os.WNOHANG)
            except ChildProcessError:  # SIGCHLD is ignored in this process, so the kernel reaped it
                pid, status = self._pid, 0
            if pid:
                self._pid = 0
                return status
            if deadline is not None and time.monotonic() > deadline:
                return None
            time.sleep(pause)
            pause = min(2 * pause, 0.05)


def _run_worker(
    make_handler: Callable[[], Callable[[T], R]],
    remote: socket.socket,
    lifeline: int,
    mask: set[signal.Signals | int],
) -> NoReturn:
    """Be a worker; never returns into the code that was copied from the parent."""
    code = 1
    try:
        _detach(lifeline, mask)
        _serve(make_handler, remote)
        code = 0
    except (_Stopped, BrokenPipeError, ConnectionResetError):
        code = 0
    finally:
        # Not sys.exit: the parent's exit handlers and buffered output are the parent's.
        os._exit(code)


def _detach(lifeline: int, mask: set[signal.Signals | int]) -> None:
    """Make this process independent of the parent's signals and descriptors."""
    for pool in list(_open_pools):
        pool.forget()
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _stop)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    signal.signal(_LIFELINE_SIGNAL, signal.SIG_DFL)
    fcntl.fcntl(lifeline, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(lifeline, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    with contextlib.suppress(BlockingIOError):
        if os.read(lifeline, 1) == b"":  # The parent was gone before the signal was asked for.
            raise _Stopped
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _stop(_number: int, _frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    raise _Stopped


def _serve(make_handler: Callable[[], Callable[[T], R]], remote: socket.socket) -> None:
    """Do tasks until there are no more."""
    with remote, remote.makefile("rb") as stream:
        handler = _make(make_handler)
        try:
            while header := stream.read(_FRAME.size):
                length, _ = _FRAME.unpack(header)
                body = stream.read(length)
                _send(remote, *_answer(handler, body))
        finally:
            _close_handler(handler)


def _make(make_handler: Callable[[], Callable[[T], R]]) -> Callable[[T], R]:
    """Return the handler, or one that reports why there is none."""
    try:
        return make_handler()
    except Exception as error:  # noqa: BLE001 - raised again in the parent, as the answer to each task
        failure = error

        def fail(_task: T) -> R:
            raise failure

        return fail


def _answer(handler: Callable[[T], R], body: bytes) -> tuple[int, bytes]:
    """Do the task in `body`; return kind and pickle of the result or of the exception."""
    try:
        task = pickle.loads(body)  # noqa: S301 - written by the process that forked us
        return _KIND_VALUE, pickle.dumps(handler(task), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        if not isinstance(error, (CfsError, OSError)):
            _note_traceback(error)
        return _KIND_ERROR, _dump_error(error)


def _note_traceback(error: Exception) -> None:
    """Keep where an unexpected error happened, which the parent's traceback cannot show."""
    import traceback  # noqa: PLC0415 - only for defects of our own

    error.add_note("In a worker process:\n" + "".join(traceback.format_exception(error)))


def _send(remote: socket.socket, kind: int, body: bytes) -> None:
    header = _FRAME.pack(len(body), kind)
    if len(body) < _RECEIVE_BYTES:
        remote.sendall(header + body)
    else:
        remote.sendall(header)
        remote.sendall(body)


class _ErrorPickler(pickle.Pickler):
    """Pickles exceptions by their state: classes with a signature of their own do not pickle otherwise."""

    def reducer_override(self, value: object) -> _Reduction:
        if not isinstance(value, BaseException):
            return cast("_Reduction", NotImplemented)
        system = (
            (value.errno, value.strerror, value.filename, value.filename2)
            if isinstance(value, OSError)
            else None
        )
        return _rebuild_error, (type(value), value.args, value.__dict__, value.__cause__, system)


def _dump_error(error: BaseException) -> bytes:
    stream = io.BytesIO()
    try:
        _ErrorPickler(stream, pickle.HIGHEST_PROTOCOL).dump(error)
        pickle.loads(stream.getbuffer())  # noqa: S301 - our own, to see that the parent will manage
        return stream.getvalue()
    except Exception:  # noqa: BLE001 - whatever it was, the parent must hear of the failure
        return pickle.dumps(WorkerFailedError(f"{type(error).__name__}: {error}"))


def _rebuild_error(
    kind: type[BaseException],
    args: tuple[object, ...],
    state: dict[str, object],
    cause: BaseException | None,
    system: tuple[int | None, str | None, object, object] | None,
) -> BaseException:
    """Make the exception again without calling its constructor."""
    error = kind.__new__(kind, *args)
    error.args = args
    error.__dict__.update(state)
    error.__cause__ = cause
    if system is not None and isinstance(error, OSError):
        error.errno, error.strerror, error.filename, error.filename2 = system
    return error
