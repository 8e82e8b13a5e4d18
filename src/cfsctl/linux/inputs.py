"""Open what a user names as input: files, devices, pipes; a named pipe without a writer ends as an error.

Opening a fifo for reading waits for a writer, forever if none comes, and ignores everything except signals.
"""

from __future__ import annotations

import errno
import os
import select
import stat
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

WRITER_TIMEOUT_S: Final = 15.0
"""Seconds in which somebody has to write to a named pipe, or to open and close it."""

MAX_PIPE_BYTES: Final = 1 << 30
"""Bytes of a pipe that are read where nothing else limits them: as many as an image may have."""

_CHUNK_BYTES: Final = 1 << 20

_FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


def open_input(path: str) -> int:
    """Open something for reading, which then waits for data as usual.

    Returns:
        A descriptor that the caller owns.

    Raises:
        OSError: As open(2); ETIMEDOUT for a named pipe without a writer.
    """
    fd = os.open(path, _FLAGS)
    try:
        if stat.S_ISFIFO(os.fstat(fd).st_mode):
            _await_writer(fd, path)
        os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return fd


def iter_pipe(fd: int) -> Iterator[bytes]:
    """Yield what comes through a pipe.

    Raises:
        OSError: As read(2); EFBIG for more than `MAX_PIPE_BYTES`.
    """
    left = MAX_PIPE_BYTES
    while chunk := os.read(fd, _CHUNK_BYTES):
        left -= len(chunk)
        if left < 0:
            raise OSError(errno.EFBIG, f"expected at most {MAX_PIPE_BYTES} bytes from a pipe, found more")
        yield chunk


def _await_writer(fd: int, path: str) -> None:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    if not poll.poll(WRITER_TIMEOUT_S * 1000):
        message = f"expected data from a named pipe, found no writer within {WRITER_TIMEOUT_S:.0f} s"
        raise OSError(errno.ETIMEDOUT, message, path)
