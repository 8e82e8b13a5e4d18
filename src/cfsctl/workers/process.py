"""The parent's side of one worker process."""

from __future__ import annotations

import contextlib
import os
import pickle
import signal
import socket
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl.workers.child import run_worker
from cfsctl.workers.failures import WorkerDiedError
from cfsctl.workers.messages import FRAME, KIND_VALUE, RECEIVE_BYTES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

T = TypeVar("T")
R = TypeVar("R")

_GRACE_S: Final = 5.0
"""Time for a worker that has closed its connection to end; then it is killed."""


class Worker:
    """One worker process, as its parent sees it.

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
                run_worker(make_handler, remote, lifeline_read, blocked)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
            remote.close()
            os.close(lifeline_read)
        self._socket.settimeout(0)

    def fileno(self) -> int:
        """Return the descriptor that messages come and go through."""
        return self._socket.fileno()

    def forget(self) -> None:
        """Close this process' copies of the descriptors without a word to the worker."""
        self._socket.close()
        if self._lifeline >= 0:
            os.close(self._lifeline)
            self._lifeline = -1

    def queue(self, weight: int, body: bytes) -> None:
        """Add a pickled task to what is to be sent."""
        self.load += weight
        self.weights.append(weight)
        self._outgoing += FRAME.pack(len(body), KIND_VALUE)
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
            data = self._socket.recv(RECEIVE_BYTES)
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
        while len(incoming) >= FRAME.size:
            length, kind = FRAME.unpack_from(incoming)
            end = FRAME.size + length
            if len(incoming) < end:
                return
            with memoryview(incoming) as view, view[FRAME.size : end] as body:
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
        """Ask the worker to end after its task, or end it now."""
        if self._pid and abort:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGTERM)
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR if abort else socket.SHUT_WR)

    def close(self, timeout_s: float | None = None) -> None:
        """Wait for the worker to end, kill it if it does not, and let its resources go.

        Args:
            timeout_s: How long to wait; None waits forever.
        """
        if self._pid and self._wait(timeout_s) is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
            self._wait(None)
        self.forget()

    def _wait(self, timeout_s: float | None) -> int | None:
        """Return the wait status of the process, or None after the timeout; None waits forever."""
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
