"""Directories below a root, opened relative to descriptors and never through a link.

A scan visits directories in an order that mostly finds the parent open, so a few are kept. Whatever
was closed is walked to again from the nearest directory that is still open, or from the root, one
component at a time: no path is too long, and a component that was swapped for a link is refused.
"""

from __future__ import annotations

import os
from typing import Final

from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.scan.files import ChangedError

Identity = tuple[int, int]
"""Device and inode of a directory."""

_WALK_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

_MAX_OPEN: Final = 64
"""Directories kept open per process, far below the usual limit of 1024 descriptors."""


class Directories:
    """The directories of one scan that are open in one process."""

    __slots__ = ("_open", "_root")

    def __init__(self, root: int) -> None:
        """Take the directory that all paths start from, borrowed."""
        self._root = root
        self._open: dict[bytes, int] = {}

    def close(self) -> None:
        """Close all of them."""
        while self._open:
            os.close(self._open.popitem()[1])

    def find(self, path: bytes, identity: Identity) -> int:
        """Return a descriptor of a directory that was listed before.

        Args:
            path: Below the root, empty for the root itself.
            identity: What it was then.

        Returns:
            A borrowed descriptor, good for looking names up until the next call.

        Raises:
            ChangedError: It is gone, or another directory now.
            OSError: It cannot be opened.
        """
        if not path:
            return self._root
        fd = self._open.get(path)
        if fd is None:
            fd = self._walk(path)
        else:
            self._remember(path, fd)
        status = os.fstat(fd)
        if (status.st_dev, status.st_ino) != identity:
            raise ChangedError(path, "it was replaced by another directory")
        return fd

    def enter(self, path: bytes, parent: Identity) -> int:
        """Return a descriptor of a directory that is visited for the first time.

        Args:
            path: Below the root, empty for the root itself.
            parent: What the directory above it was when it was listed.

        Returns:
            A borrowed descriptor, good for listing until the next call.

        Raises:
            ChangedError: It is gone or no longer a directory.
            OSError: It cannot be opened.
        """
        if not path:
            return self._root
        above, _, name = path.rpartition(b"/")
        dirfd = self.find(above, parent)
        try:
            fd = os.open(name, DIRECTORY_FLAGS, dir_fd=dirfd)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(path, "it no longer exists or is not a directory") from error
        self._remember(path, fd)
        return fd

    def _remember(self, path: bytes, fd: int) -> None:
        """Keep a directory open, as the one used last; close the one that was not used for longest."""
        before = self._open.pop(path, fd)
        if before != fd:
            os.close(before)
        self._open[path] = fd
        if len(self._open) > _MAX_OPEN:
            os.close(self._open.pop(next(iter(self._open))))

    def _walk(self, path: bytes) -> int:
        """Open a directory, and keep the last ones on the way, so that the way back needs few walks."""
        start, fd = self._nearest(path)
        for name in path[start:].split(b"/"):
            try:
                fd = os.open(name, _WALK_FLAGS, dir_fd=fd)
            except (FileNotFoundError, NotADirectoryError) as error:
                raise ChangedError(path, "it no longer exists or is not a directory") from error
            start += len(name)
            self._remember(path[:start], fd)
            start += 1
        return fd

    def _nearest(self, path: bytes) -> tuple[int, int]:
        """Return where in `path` the part below the nearest open directory starts, and that directory."""
        above = path
        for _ in range(_MAX_OPEN):
            above = above.rpartition(b"/")[0]
            if not above:
                break
            fd = self._open.get(above)
            if fd is not None:
                return len(above) + 1, fd
        return 0, self._root
