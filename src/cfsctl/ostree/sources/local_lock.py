"""The lock of an OSTree repository, which prevents pruning while we read or write.

Format: ``.lock`` in the repository, an open file description lock over the whole file (fcntl(2)): shared
for those who read and write, exclusive for `ostree prune` and the like. ``[core] locking=false`` does
the lock, and ``lock-timeout-secs`` is the time to wait, -1 for no limit. Readers wait for 15 seconds at most,
since the configuration may be hostile.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import time
from typing import TYPE_CHECKING, Final

from cfsctl import heartbeat
from cfsctl.errors import ExitCode
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import open_regular
from cfsctl.ostree.key_file import BLANKS
from cfsctl.ostree.source import SourceError
from cfsctl.repository.objects.space import explain_no_space

if TYPE_CHECKING:
    from collections.abc import Mapping

_NAME: Final = ".lock"
_DEFAULT_TIMEOUT_S: Final = 300
_MAX_TIMEOUT_S: Final = 24 * 3600

_MAX_SOURCE_TIMEOUT_S: Final = 15
"""Time at most that we wait for a repository which we only read: its configuration may be anybody's."""

_PAUSE_S: Final = 0.1
_MODE: Final = 0o660
_FLOCK: Final = struct.Struct("hhqqi")
"""struct flock: type, whence, start, length (0 is to the end), process, which must be 0."""


class RepositoryInUseError(SourceError):
    """An OSTree repository that another process has locked exclusively."""

    exit_code = ExitCode.LOCKED


def lock_for_use(dirfd: int, path: str, core: Mapping[str, str], *, create: bool = False) -> int:
    """Share the lock of a repository with others.

    Args:
        dirfd: The repository's directory, borrowed.
        path: The repository, for messages.
        core: The group ``core`` of its configuration.
        create: Make the file if none exists, as those do who write.

    Returns:
        A descriptor that holds the lock until it is closed, here and in every forked process; -1 if there is
        no lock file that can be opened, as in a repository that was never written to.

    Raises:
        RepositoryInUseError: The timeout expired.
        OSError: The file could not be made.
    """
    if core.get("locking", "").strip(BLANKS) in {"false", "0"}:
        return -1
    if create:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with relative_to(path):
                os.close(os.open(_NAME, flags, _MODE, dir_fd=dirfd))
        except OSError as error:
            explain_no_space(error, dirfd, f"OSTree repository {path}")
            raise
    try:
        fd = open_regular(dirfd, _NAME)
    except OSError:
        return -1
    try:
        limit_s = _MAX_TIMEOUT_S if create else _MAX_SOURCE_TIMEOUT_S
        if _wait(fd, path, min(_parse_timeout(core.get("lock-timeout-secs", "")), limit_s)):
            return fd
    except BaseException:
        os.close(fd)
        raise
    os.close(fd)
    return -1


def _parse_timeout(text: str) -> int:
    """Return the seconds that a configuration asks for; forever, and more than a day, is a day."""
    digits = text.strip(BLANKS)
    if not digits.isascii() or not digits.removeprefix("-").isdecimal():
        return _DEFAULT_TIMEOUT_S
    return _MAX_TIMEOUT_S if digits.startswith("-") else min(int(digits[:9]), _MAX_TIMEOUT_S)


def _wait(fd: int, path: str, timeout_s: float) -> bool:
    """Take the lock; return whether the file system has such locks."""
    deadline_s = time.monotonic() + timeout_s
    request = _FLOCK.pack(fcntl.F_RDLCK, os.SEEK_SET, 0, 0, 0)
    while True:
        try:
            fcntl.fcntl(fd, fcntl.F_OFD_SETLK, request)
        except OSError as error:
            if error.errno not in {errno.EAGAIN, errno.EACCES}:
                return False
        else:
            return True
        if time.monotonic() >= deadline_s:
            raise RepositoryInUseError(
                f"{path}: expected to share its lock, found it locked by another process for {timeout_s:g} s",
                hint="wait for `ostree prune`, or any other process that uses it, to end",
            )
        heartbeat.sleep(_PAUSE_S)
