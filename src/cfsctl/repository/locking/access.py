"""Whether a repository may be written to, asked once before the first write of a process."""

from __future__ import annotations

import errno
import os

from cfsctl.errors import RepositoryError


class NotWritableError(RepositoryError):
    """A repository that this process can only read."""


class WriteAccess:
    """The permission to write to one repository."""

    def __init__(self, dirfd: int, unknown_features: tuple[str, ...] = ()) -> None:
        """Ask nothing yet.

        Args:
            dirfd: The repository's directory, borrowed.
            unknown_features: Features of the repository that a writer would have to know.
        """
        self._dirfd = dirfd
        self._unknown_features = unknown_features
        self._is_granted = False

    def check(self) -> None:
        """Return if the repository may be written to.

        Raises:
            NotWritableError: Unknown features, a read-only file system or no permission.
        """
        if self._is_granted:
            return
        if self._unknown_features:
            names = ", ".join(self._unknown_features)
            raise NotWritableError(
                f"Repository is not writable: unknown read-only-compatible features: {names}",
                hint="use the program version that made the repository",
            )
        if os.fstatvfs(self._dirfd).f_flag & os.ST_RDONLY:
            raise NotWritableError("Repository is not writable: read-only file system")
        if not os.access(".", os.W_OK, dir_fd=self._dirfd, effective_ids=True):
            raise NotWritableError(f"Repository is not writable: {os.strerror(errno.EACCES).lower()}")
        self._is_granted = True
