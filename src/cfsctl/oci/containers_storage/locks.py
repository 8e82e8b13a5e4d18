"""Shared locks on the storage, so that nothing of it is removed while it is read.

The storage's library locks with fcntl(2), and composefs-rs with flock(2). The kernel keeps the two apart, so
both are taken.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
import time
from typing import Final

from cfsctl.linux.files import open_regular
from cfsctl.logs import get_logger

_log = get_logger(__name__)

_OFD_SETLK: Final = 37
"""F_OFD_SETLK (linux/fcntl.h). Such a lock belongs to the open file: it stays in forked processes, and
closing another descriptor of the same file does not end it, as it would a lock of the process."""

_FLOCK: Final = struct.Struct("=hhqqi4x")  # struct flock with 64 bits: type, whence, start, length, process
_FIRST_POLL_S: Final = 0.01
_POLL_S: Final = 0.25
_PATIENCE_S: Final = 1.0
"""How long nothing is said about waiting."""

_BUSY: Final = frozenset({errno.EAGAIN, errno.EACCES})


def lock_shared(dirfd: int, name: str, where: str) -> int | None:
    """Wait for a shared lock; return the descriptor that holds it, which the caller owns.

    Args:
        dirfd: Directory of the lock file, borrowed.
        name: The lock file.
        where: What messages call it.

    Returns:
        None if no lock file exists, as in a store that is only read.

    Raises:
        OSError: The file is not a regular one, or cannot be opened.
    """
    try:
        fd = open_regular(dirfd, name)
    except FileNotFoundError:
        return None
    try:
        _wait(fd, where)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _wait(fd: int, where: str) -> None:
    began = time.monotonic()
    is_told = False
    pause = _FIRST_POLL_S
    while not _try(fd):
        if not is_told and time.monotonic() - began > _PATIENCE_S:
            _log.warning("waiting for %s, which another program has locked", where)
            is_told = True
        time.sleep(pause)
        pause = min(2 * pause, _POLL_S)


def _try(fd: int) -> bool:
    """Take both locks or none."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        fcntl.fcntl(fd, _OFD_SETLK, _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno == errno.EINVAL:
            return True  # a file system without such locks: the first one has to do
        if error.errno not in _BUSY:
            raise
        with contextlib.suppress(OSError):
            fcntl.flock(fd, fcntl.LOCK_UN)
        return False
    return True
