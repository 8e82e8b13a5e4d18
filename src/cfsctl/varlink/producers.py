"""Processes that write to a pipe after the call has been answered."""

from __future__ import annotations

import os
import select
import signal
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl.errors import CfsError
from cfsctl.logs import get_logger
from cfsctl.varlink.channel import close_all
from cfsctl.varlink.signals import GONE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Producer = Callable[[Callable[[], object]], Iterator[bytes | memoryview]]
    """Called in the process with what it is to call when all is ready; yields what is to be written."""

_LOG = get_logger(__name__)

MAX_PRODUCERS: Final = 64
"""Most of them for one connection."""


class ProducerError(CfsError):
    """A process that could not be started."""


class Producers:
    """The processes of one connection."""

    def __init__(self, close_inherited: Callable[[], object] = lambda: None) -> None:
        """Have none yet.

        Args:
            close_inherited: Called in each process, to close what it is not to keep open.
        """
        self._close_inherited = close_inherited
        self._pids: list[int] = []

    def start(self, produce: Producer) -> tuple[int, int]:
        """Start a process, and wait until it is ready.

        It ends when it has written all, when nobody can read that any more, or when all copies of the second
        descriptor are closed.

        Returns:
            Where to read, and what keeps it running; both are the caller's.

        Raises:
            ProducerError: It did not become ready, or there are too many.
        """
        self._reap()
        if len(self._pids) >= MAX_PRODUCERS:
            raise ProducerError(f"expected at most {MAX_PRODUCERS} transfers at once")
        data_read, data_write = os.pipe2(os.O_CLOEXEC)
        life_read, life_write = os.pipe2(os.O_CLOEXEC)
        ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
        ours, theirs = (data_read, life_write, ready_read), (data_write, life_read, ready_write)
        try:
            pid = os.fork()
        except OSError:
            close_all((*ours, *theirs))
            raise
        if pid == 0:
            close_all(ours)
            self._close_inherited()
            _run(produce, *theirs)
        close_all(theirs)
        self._pids.append(pid)
        try:
            is_ready = bool(os.read(ready_read, 1))
        except BaseException:
            close_all(ours)
            raise
        os.close(ready_read)
        if not is_ready:
            close_all((data_read, life_write))
            raise ProducerError("the layer cannot be read")
        return data_read, life_write

    def _reap(self) -> None:
        self._pids = [pid for pid in self._pids if os.waitpid(pid, os.WNOHANG)[0] == 0]

    def wait(self) -> None:
        """Wait until all have ended, which they do when their readers are done."""
        while self._pids:
            os.waitpid(self._pids[-1], 0)
            self._pids.pop()

    def kill(self) -> None:
        """Kill all processes."""
        for pid in self._pids:
            os.kill(pid, signal.SIGKILL)
        self.wait()


def _run(produce: Producer, data: int, lifetime: int, ready: int) -> NoReturn:
    """Run in the process."""
    status = 1
    try:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        signal.signal(GONE, signal.SIG_IGN)
        os.set_blocking(data, False)
        for piece in produce(lambda: os.write(ready, b"1")):
            if not _write(data, lifetime, memoryview(piece)):
                break
        status = 0
    except BaseException as error:  # noqa: BLE001 - this process ends in any case
        _LOG.warning("a layer could not be sent: %s", error)
    finally:
        os._exit(status)


def _write(data: int, lifetime: int, rest: memoryview) -> bool:
    """Write all; return False if nobody wants it any more."""
    poll = select.poll()
    poll.register(data, select.POLLOUT)
    poll.register(lifetime, 0)
    while rest:
        events = dict(poll.poll())
        if events.get(lifetime) or events.get(data, 0) & select.POLLERR:
            return False
        try:
            rest = rest[os.write(data, rest) :]
        except BlockingIOError:
            continue
        except BrokenPipeError:
            return False
    return True
