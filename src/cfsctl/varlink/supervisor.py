"""The process that accepts connections, starts a process for each, and knows all handles.

It also keeps a descriptor of each connection, by which it sees that a client has gone while its call is
performed; the call is then ended by a signal. So no call has to look for that itself.
"""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import select
import signal
import socket
import time
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.library.preload import preload
from cfsctl.logs import get_logger
from cfsctl.varlink.channel import Channel
from cfsctl.varlink.connection import Connection
from cfsctl.varlink.control import RemoteHandles, answer
from cfsctl.varlink.interfaces import NAMES, load_interface
from cfsctl.varlink.methods import find_methods
from cfsctl.varlink.registry import Owner, Registry
from cfsctl.varlink.signals import GONE, CallSignals

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.varlink.options import ServiceOptions

_LOG = get_logger(__name__)

MAX_CONNECTIONS: Final = 512
"""Most connections at a time, since each has a process; others wait in the queue of the socket."""

_FDS_OF_CONNECTION: Final = 3
_OTHER_FDS: Final = 64

_PATIENCE_S: Final = 10.0
"""How long a call has to unwind when the service ends."""

_PAUSE_S: Final = 0.1
"""Before the next attempt to start a process, if the system has none left."""

_MASKED: Final = {GONE, signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGCHLD}
_ENDING: Final = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class _Worker:
    """The process of one connection, as the supervisor knows it."""

    def __init__(self, pid: int, control: socket.socket, channel: Channel) -> None:
        self.pid = pid
        self.control = control
        self.channel = channel
        self.owner = Owner(channel.peer_uid(), channel.is_gone)
        self.kill_at_s: float | None = None

    def tell(self, number: int) -> None:
        """Send the process a signal; it has not been waited for, so that its number is still its own."""
        os.kill(self.pid, number)

    def end(self) -> None:
        """Ask the process to end; it is killed if it takes too long."""
        self.kill_at_s = time.monotonic() + _PATIENCE_S
        self.tell(signal.SIGTERM)


class Supervisor:
    """Serves connections until it is told to end, or none is left and none can come."""

    def __init__(self, listeners: Sequence[socket.socket], options: ServiceOptions) -> None:
        """Serve nothing yet.

        Args:
            listeners: Sockets to accept connections from, borrowed.
            options: How repositories are opened.
        """
        self._listeners = {listener.fileno(): listener for listener in listeners}
        self._options = options
        self._registry = Registry()
        self._workers: dict[int, _Worker] = {}
        self._by_fd: dict[int, _Worker] = {}
        self._is_ending = False
        self._has_told = False
        self._is_listening = False
        self._retry_at_s: float | None = None
        self._limit = _raise_limit()
        self._poll = select.epoll()
        self._wake_read, self._wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._poll.register(self._wake_read, select.EPOLLIN)

    def run(self, connections: Sequence[Channel] = ()) -> None:
        """Serve, starting with existing connections, which are closed at the end."""
        before = self._catch_signals()
        if self._listeners:
            preload()  # once, and not in each process
            for name in NAMES:
                load_interface(name)
                find_methods(name)
        gc.collect()
        gc.freeze()  # a collection in a process would copy what all of them share
        try:
            for listener in self._listeners.values():
                # Another process may take the connection that was announced.
                listener.setblocking(False)  # noqa: FBT003 - has no keywords
            for channel in connections:
                self._start(channel)
            while self._workers or (self._listeners and not self._is_ending):
                self._step()
        finally:
            for worker in self._workers.values():  # something else has ended the service
                worker.tell(signal.SIGTERM)
            _restore_signals(before)
            self._poll.close()
            os.close(self._wake_read)
            os.close(self._wake_write)

    def _catch_signals(self) -> dict[int, object]:
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        before: dict[int, object] = {}
        for number in _ENDING:
            before[number] = signal.signal(number, self._begin_end)
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, lambda *_: None)
        return before

    def _begin_end(self, _number: int, _frame: object) -> None:
        self._is_ending = True

    def _step(self) -> None:
        """Wait for something, and deal with it."""
        self._listen(is_wanted=self._may_accept())
        ready = [fd for fd, _ in self._poll.poll(self._timeout_s())]
        # In this order: what is reaped is closed, and a new connection may get the number of its descriptor.
        for fd in ready:
            if fd in self._by_fd:
                self._attend(fd, self._by_fd[fd])
        if self._wake_read in ready:
            self._reap()
        for fd in ready:
            if fd in self._listeners:
                self._accept(self._listeners[fd])
        if self._is_ending and not self._has_told:
            self._has_told = True
            for worker in self._workers.values():
                worker.end()
        self._kill_late()

    def _may_accept(self) -> bool:
        if self._retry_at_s is not None and time.monotonic() >= self._retry_at_s:
            self._retry_at_s = None
        return not self._is_ending and self._retry_at_s is None and len(self._workers) < self._limit

    def _listen(self, *, is_wanted: bool) -> None:
        if is_wanted == self._is_listening:
            return
        for fd in self._listeners:
            if is_wanted:
                self._poll.register(fd, select.EPOLLIN)
            else:
                self._poll.unregister(fd)
        self._is_listening = is_wanted

    def _timeout_s(self) -> float | None:
        times = [worker.kill_at_s for worker in self._workers.values() if worker.kill_at_s is not None]
        if self._retry_at_s is not None:
            times.append(self._retry_at_s)
        return max(0.0, min(times) - time.monotonic()) if times else None

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError as error:  # it is gone again, or there are no descriptors left for a while
            _LOG.info("accepting a connection: %s", error)
            self._retry_at_s = time.monotonic() + _PAUSE_S
            return
        connection.setblocking(True)  # noqa: FBT003 - has no keywords
        self._start(Channel(connection.detach()))

    def _start(self, channel: Channel) -> None:
        """Start the process of a connection."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # A signal that came before the process has its own handlers would be lost.
        signal.pthread_sigmask(signal.SIG_BLOCK, _MASKED)
        try:
            pid = os.fork()
        except OSError as error:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _MASKED)
            _LOG.warning("starting a process for a connection: %s", error.strerror)
            self._retry_at_s = time.monotonic() + _PAUSE_S
            ours.close()
            theirs.close()
            channel.close()
            return
        if pid == 0:
            ours.close()
            self._serve(channel, theirs)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _MASKED)
        theirs.close()
        worker = _Worker(pid, ours, channel)
        self._workers[pid] = worker
        self._watch(ours.fileno(), select.EPOLLIN, worker)
        # Hanging up is always reported, and nothing else is wanted.
        self._watch(channel.write_fd, 0, worker)

    def _watch(self, fd: int, events: int, worker: _Worker) -> None:
        try:
            self._poll.register(fd, events)
        except PermissionError:
            return  # a file, which never hangs up
        self._by_fd[fd] = worker

    def _forget(self, fd: int) -> None:
        # Closing is not enough: the process of the connection has the same description open.
        if self._by_fd.pop(fd, None) is not None:
            self._poll.unregister(fd)

    def _serve(self, channel: Channel, control: socket.socket) -> NoReturn:
        """Run in the process of a connection."""
        status = 1
        try:
            signals = CallSignals()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _MASKED)
            self._close_inherited()
            Connection(channel, RemoteHandles(control), self._options, signals).run()
            status = 0
        except BaseException:  # noqa: BLE001 - this process ends in any case
            _LOG.exception("a connection")
        finally:
            os._exit(status)

    def _close_inherited(self) -> None:
        """Close what belongs to the supervisor, so that each connection ends when its own process does."""
        self._poll.close()
        os.close(self._wake_read)
        os.close(self._wake_write)
        for listener in self._listeners.values():
            os.close(listener.detach())
        for worker in self._workers.values():
            worker.control.close()
            worker.channel.close()

    def _attend(self, fd: int, worker: _Worker) -> None:
        if fd != worker.control.fileno():
            self._forget(fd)
            worker.tell(GONE)
        elif not answer(worker.control, self._registry, worker.owner):
            self._forget(fd)  # its process has ended, or is about to

    def _reap(self) -> None:
        """Release what belongs to processes that have ended."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_read, 1 << 16)
        for pid, worker in list(self._workers.items()):
            if os.waitpid(pid, os.WNOHANG)[0] == 0:
                continue
            del self._workers[pid]
            self._forget(worker.control.fileno())
            self._forget(worker.channel.write_fd)
            worker.control.close()
            worker.channel.close()
            self._registry.end(worker.owner)

    def _kill_late(self) -> None:
        now = time.monotonic()
        for worker in self._workers.values():
            if worker.kill_at_s is not None and now >= worker.kill_at_s:
                _LOG.warning("a call did not end in time: its process is killed")
                os.kill(worker.pid, signal.SIGKILL)
                worker.kill_at_s = now + _PATIENCE_S


def _restore_signals(before: dict[int, object]) -> None:
    signal.set_wakeup_fd(-1)
    for number, handler in before.items():
        signal.signal(number, handler)  # type: ignore[arg-type]  # what signal() has returned


def _raise_limit() -> int:
    """Allow as many descriptors as all connections need; return how many connections that is enough for."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(MAX_CONNECTIONS * _FDS_OF_CONNECTION + _OTHER_FDS, hard)
    if soft < wanted:
        with contextlib.suppress(OSError):  # a sandbox may not allow it
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
            soft = wanted
    return max(1, min(MAX_CONNECTIONS, (soft - _OTHER_FDS) // _FDS_OF_CONNECTION))
