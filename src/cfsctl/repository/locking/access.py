"""Check whether a repository may be written to, once before the first write of a process."""

from __future__ import annotations

import errno
import os

from cfsctl.errors import RepositoryError


class NotWritableError(RepositoryError):
    """A repository that this process can only read."""


class WriteAccess:
    """The permission to write to one repository."""

    def __init__(self, dirfd: int, path: str, unknown_features: tuple[str, ...] = ()) -> None:
        """Prepare the check, which is made on first use.

        Args:
            dirfd: The repository's directory, borrowed.
            path: What to call it in messages.
            unknown_features: Features of the repository that a writer would have to know.
        """
        self._dirfd = dirfd
        self._path = path
        self._unknown_features = unknown_features
        self._is_granted = False

    def check(self) -> None:
        """Check that the repository may be written to.

        Raises:
            NotWritableError: Unknown features, a read-only file system or no permission.
        """
        if self._is_granted:
            return
        if self._unknown_features:
            names = ", ".join(self._unknown_features)
            raise self._error(
                f"unknown read-only-compatible features: {names}",
                "use the program version that made the repository",
            )
        if os.fstatvfs(self._dirfd).f_flag & os.ST_RDONLY:
            raise self._error(
                "read-only file system", "mount it for writing, or `cfsctl copy` to a repository elsewhere"
            )
        if not os.access(".", os.W_OK, dir_fd=self._dirfd, effective_ids=True):
            raise self._error(
                os.strerror(errno.EACCES).lower(), "run it as the repository's owner, or name another one"
            )
        self._is_granted = True

    def _error(self, reason: str, hint: str) -> NotWritableError:
        return NotWritableError(f"Repository is not writable: {reason}: {self._path}", hint=hint)
