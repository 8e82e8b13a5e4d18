"""Walk down and up directories that may be nested deeper than a process may have files open."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

_MAX_OPEN: Final = 64
"""Directories that are open at a time."""

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryMovedError(CfsError):
    """A directory that somebody moved while something was done below it."""


class OpenDirectories:
    """The directories from a start to the one that is worked on, of which the innermost are open.

    A context manager that closes all of them.
    """

    def __init__(self, start: int) -> None:
        """Begin at an open directory, which is borrowed."""
        self._levels: list[int | None] = [os.dup(start)]
        self._status: list[os.stat_result] = [os.fstat(start)]

    @property
    def current(self) -> int:
        """Descriptor of the directory that is worked on, borrowed."""
        fd = self._levels[-1]
        assert fd is not None
        return fd

    def enter(self, name: bytes) -> None:
        """Go to a directory in the current one; links are not followed.

        Raises:
            OSError: As open(2).
        """
        fd = os.open(name, _DIRECTORY, dir_fd=self.current)
        self._levels.append(fd)
        self._status.append(os.fstat(fd))
        outer = len(self._levels) - 1 - _MAX_OPEN
        if outer >= 0 and (far := self._levels[outer]) is not None:
            os.close(far)
            self._levels[outer] = None

    def leave(self) -> None:
        """Go back to the parent.

        Raises:
            DirectoryMovedError: ".." leads somewhere else by now.
            OSError: As open(2).
        """
        if self._levels[-2] is None:
            parent = os.open("..", _DIRECTORY, dir_fd=self.current)
            self._levels[-2] = parent
            if not os.path.samestat(os.fstat(parent), self._status[-2]):
                raise DirectoryMovedError("a directory was moved while files below it were changed")
        os.close(self.current)
        self._levels.pop()
        self._status.pop()

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close all directories."""
        for fd in self._levels:
            if fd is not None:
                os.close(fd)
        self._levels.clear()
