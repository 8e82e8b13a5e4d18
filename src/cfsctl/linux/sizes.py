"""Query a file system (statfs(2)) with a timeout.

A file system that is served by a program or a server (FUSE, NFS) may never answer, and a system call that
waits for it cannot be cancelled. So a forked process makes the call, and is killed when the timeout expires.
"""

from __future__ import annotations

import errno
import os
import select
import signal
import struct
import time
import warnings
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.linux.syscalls import file_system_type, libc

if TYPE_CHECKING:
    from typing import NoReturn

TIMEOUT_S: Final = 5.0
"""The longest time to wait; a local file system answers within a millisecond."""

_LAST_WAIT_S: Final = 1.0
_PAUSE_S: Final = 0.001

_ANSWER = struct.Struct("=QQQQ")
_WORD: Final = (1 << 64) - 1


class Sizes(NamedTuple):
    """Type and sizes of a file system.

    Attributes:
        kind: Its magic number.
        blocks: How many blocks it has.
        files: How many inodes it has, or may have.
        free_files: How many of those are free.
    """

    kind: int
    blocks: int
    files: int
    free_files: int


def ask_sizes(fd: int, timeout_s: float = TIMEOUT_S) -> Sizes:
    """Return type and sizes of the file system that an open file is on.

    Raises:
        TimeoutError: It does not answer.
        OSError: It does not tell.
    """
    reader, writer = os.pipe2(os.O_CLOEXEC)
    libc()  # loaded before the fork
    child = _fork()
    if child == 0:
        _answer(fd, writer)
    os.close(writer)
    try:
        if not select.select([reader], [], [], timeout_s)[0]:
            raise TimeoutError(errno.ETIMEDOUT, "the file system does not answer")
        answer = os.read(reader, _ANSWER.size)
    finally:
        os.close(reader)
        _end(child)
    if len(answer) != _ANSWER.size:
        raise OSError(errno.EIO, "the file system does not report its sizes")
    return Sizes(*_ANSWER.unpack(answer))


def _fork() -> int:
    with warnings.catch_warnings():
        # The child of a process with threads makes system calls only.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _answer(fd: int, writer: int) -> NoReturn:
    """Make the call in the forked child; never returns to the parent's code."""
    try:
        kind, sizes = file_system_type(fd), os.fstatvfs(fd)
        # Python takes the words for signed ones.
        words = (word & _WORD for word in (sizes.f_blocks, sizes.f_files, sizes.f_ffree))
        os.write(writer, _ANSWER.pack(kind, *words))
    finally:
        os._exit(0)


def _end(child: int) -> None:
    """Kill the child; if it is stuck in the kernel, leave it to init."""
    os.kill(child, signal.SIGKILL)
    deadline = time.monotonic() + _LAST_WAIT_S
    while os.waitpid(child, os.WNOHANG)[0] == 0 and time.monotonic() < deadline:
        time.sleep(_PAUSE_S)
