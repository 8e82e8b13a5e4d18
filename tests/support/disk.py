"""Spares tests the wait for the disk, to which other programs may be writing; no test can tell."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
from typing import TYPE_CHECKING, Protocol

from cfsctl.linux.syscalls import libc

if TYPE_CHECKING:

    class HasFileno(Protocol):
        def fileno(self) -> int: ...


def _check(fd: int | HasFileno) -> None:
    """Fail as fsync(2) would for what is no open file."""
    fd = fd if isinstance(fd, int) else fd.fileno()
    if fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_PATH:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF))


def _syncfs(fd: int) -> int:
    try:
        _check(fd)
    except OSError as error:
        ctypes.set_errno(error.errno or errno.EIO)
        return -1
    return 0


def skip_waiting() -> None:
    """Have fsync(2), fdatasync(2) and syncfs(2) check what they are given, and no more, in this process.

    Simulated power failures and recorded calls see them all the same. With CFSCTL_TESTS_REAL in the
    environment the disk is waited for.
    """
    if "CFSCTL_TESTS_REAL" not in os.environ:
        os.fsync = _check
        os.fdatasync = _check
        libc().syncfs = _syncfs  # type: ignore[attr-defined]  # found by its name in the library
