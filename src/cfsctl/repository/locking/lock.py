"""The lock of a repository: flock(2) on its directory, shared with the original program.

    shared      everyone who has the repository open, for as long as it is open
    exclusive   garbage collection and ``init --reset-metadata``, while they remove things

flock also works on directories of read-only file systems. First, the lock is tried without waiting, so that a
waiting process can report the holder. Upgrading a shared lock to an exclusive one is not atomic: another
process may get the lock in between, so anything read under the shared lock must be read again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import math
import time
from typing import TYPE_CHECKING, Final

from cfsctl import heartbeat
from cfsctl.errors import ExitCode, RepositoryError
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.progress import Reporter

_FIRST_PAUSE_S: Final = 0.005
_LONGEST_PAUSE_S: Final = 0.25


class LockedError(RepositoryError):
    """Another process held the lock of the repository for too long."""

    exit_code = ExitCode.LOCKED


class RepositoryLock:
    """The lock of one open repository.

    Attributes:
        is_exclusive: Whether the lock is held exclusively.
    """

    def __init__(self, fd: int, path: str, reporter: Reporter = silent) -> None:
        """Hold nothing yet.

        Args:
            fd: The repository's directory, opened for reading, borrowed; the lock belongs to it.
            path: The repository as the user named it, for messages.
            reporter: Told when the lock has to be waited for.
        """
        self._fd = fd
        self._path = path
        self._reporter = reporter
        self.is_exclusive = False

    def share(self, timeout_s: float | None = None) -> None:
        """Hold the lock with others; gives up an exclusive lock.

        Args:
            timeout_s: Longest time to wait for an exclusive holder; None waits forever.

        Raises:
            LockedError: The timeout expired.
        """
        self._acquire(fcntl.LOCK_SH, timeout_s)
        self.is_exclusive = False

    @contextlib.contextmanager
    def exclusive(self, timeout_s: float | None = None) -> Iterator[None]:
        """Hold the lock alone within the block, shared again afterwards.

        Args:
            timeout_s: Longest time to wait for the other holders; None waits forever.

        Raises:
            LockedError: The timeout expired; the lock may not even be held shared then.
        """
        self._acquire(fcntl.LOCK_EX, timeout_s)
        self.is_exclusive = True
        try:
            yield
        finally:
            self.share()

    def release(self) -> None:
        """Release the lock."""
        fcntl.flock(self._fd, fcntl.LOCK_UN)
        self.is_exclusive = False

    def _acquire(self, operation: int, timeout_s: float | None) -> None:
        if self._try(operation):
            return
        from cfsctl.repository.locking.holders import describe_holders  # few locks are held

        holders = describe_holders(self._fd)
        if timeout_s is None or timeout_s > 0:
            purpose = "until nobody else uses it" if operation == fcntl.LOCK_EX else "until it is unlocked"
            self._reporter(Message(f"{self._path}: waiting {purpose}{holders}"))
        if timeout_s is None and not heartbeat.is_watched():
            fcntl.flock(self._fd, operation)
            return
        deadline = math.inf if timeout_s is None else time.monotonic() + timeout_s
        pause = _FIRST_PAUSE_S
        while (left := deadline - time.monotonic()) > 0:
            heartbeat.sleep(min(pause, left))
            pause = min(2 * pause, _LONGEST_PAUSE_S)
            if self._try(operation):
                return
        assert timeout_s is not None
        waited = f" after {timeout_s:g} s" if timeout_s > 0 else ""
        raise LockedError(
            f"repository {self._path} is in use by another process{waited}{describe_holders(self._fd)}",
            hint="wait for it to end, or allow more time with --lock-timeout",
        )

    def _try(self, operation: int) -> bool:
        try:
            fcntl.flock(self._fd, operation | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            return False
        return True
