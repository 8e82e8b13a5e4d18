"""The worker's side: what runs after the fork."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pickle
import signal
from typing import TYPE_CHECKING, Final, TypeVar

from cfsctl import heartbeat
from cfsctl.errors import CfsError
from cfsctl.workers.failures import note_traceback
from cfsctl.workers.handlers import close_handler, parents_own
from cfsctl.workers.messages import FRAME, KIND_ERROR, KIND_VALUE, RECEIVE_BYTES
from cfsctl.workers.pickled_errors import dump_error
from cfsctl.workers.threads import use_one_thread

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from types import FrameType
    from typing import NoReturn

T = TypeVar("T")
R = TypeVar("R")

_LIFELINE_SIGNAL: Final = signal.SIGIO
"""Sent to a worker when the parent's end of the lifeline closes; its default action ends the process."""


class _Stopped(BaseException):
    """Raised in a worker by the signal that ends it, so that its clean-up runs."""


def run_worker(
    make_handler: Callable[[], Callable[[T], R]],
    remote: socket.socket,
    lifeline: int,
    mask: set[signal.Signals | int],
) -> NoReturn:
    """Run the worker loop in the forked child; never returns to the parent's code."""
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
    for owned in list(parents_own):
        owned.forget()
    heartbeat.forget()
    use_one_thread()
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
    """Run tasks until none are left."""
    with remote, remote.makefile("rb") as stream:
        handler = _make(make_handler)
        try:
            while header := stream.read(FRAME.size):
                length, _ = FRAME.unpack(header)
                body = stream.read(length)
                _send(remote, *_answer(handler, body))
        finally:
            close_handler(handler)


def _make(make_handler: Callable[[], Callable[[T], R]]) -> Callable[[T], R]:
    """Return the handler, or one that reports why none exists."""
    try:
        return make_handler()
    except Exception as error:  # noqa: BLE001 - raised again in the parent, as the answer to each task
        failure = error

        def fail(_task: T) -> R:
            raise failure

        return fail


def _answer(handler: Callable[[T], R], body: bytes) -> tuple[int, bytes]:
    """Run the task in `body`; return kind and pickle of the result or of the exception."""
    try:
        task = pickle.loads(body)  # noqa: S301 - written by the process that forked us
        return KIND_VALUE, pickle.dumps(handler(task), pickle.HIGHEST_PROTOCOL)
    except Exception as error:  # noqa: BLE001 - raised again in the parent
        if not isinstance(error, (CfsError, OSError)):
            note_traceback(error)
        return KIND_ERROR, dump_error(error)


def _send(remote: socket.socket, kind: int, body: bytes) -> None:
    header = FRAME.pack(len(body), kind)
    if len(body) < RECEIVE_BYTES:
        remote.sendall(header + body)
    else:
        remote.sendall(header)
        remote.sendall(body)
