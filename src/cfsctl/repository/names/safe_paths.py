"""Open what is below a repository's directory, and nothing outside of it.

Anybody who may write to a repository may put a link in the place of any directory. Directories are therefore
opened one by one without following links: a link there is an error, and never a way out of the repository.
"""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import RepositoryError
from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import make_directory
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.linux.syscalls import openat2

if TYPE_CHECKING:
    from collections.abc import Iterator

_MAX_LINKS: Final = 40
"""Links followed in one path; the kernel's own limit (MAXSYMLINKS)."""
_DIRECTORY_MODE: Final = 0o755


class BlockedNameError(RepositoryError):
    """A name that cannot be used because something else is in its way."""


class SafePaths:
    """Opens paths below a directory.

    Attributes:
        is_synced: Whether new directories are made durable.
    """

    def __init__(self, dirfd: int) -> None:
        """Make no call to the system yet; `dirfd` is borrowed and must stay open."""
        self.is_synced = True
        self._root = dirfd

    @contextlib.contextmanager
    def open_directory(self, parts: list[str], *, create: bool = False) -> Iterator[int]:
        """Open a directory below the repository, component by component.

        Raises:
            FileNotFoundError: One is missing and `create` is false.
            BlockedNameError: One is a link or no directory.
        """
        fd = os.dup(self._root)
        try:
            for index, part in enumerate(parts):
                try:
                    with relative_to("/".join(parts[:index])):
                        inner = self.open_inner(fd, part, create=create)
                except OSError as error:
                    if error.errno not in {errno.ELOOP, errno.ENOTDIR}:
                        raise
                    path = "/".join(parts[: index + 1])
                    raise BlockedNameError(f"{path}: expected a directory, found something else") from error
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)

    def open_inner(self, fd: int, part: str, *, create: bool = False) -> int:
        """Open a directory in an open one; the descriptor is the caller's.

        Raises:
            OSError: As open(2); ELOOP or ENOTDIR if it is a link or no directory.
        """
        try:
            return os.open(part, DIRECTORY_FLAGS, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        with contextlib.suppress(FileExistsError):
            make_directory(part, _DIRECTORY_MODE, fd)
            self.sync(fd)
        return os.open(part, DIRECTORY_FLAGS, dir_fd=fd)

    def open_target(self, parents: list[str], last: str) -> int:
        """Return an O_PATH descriptor of what a link leads to, as long as that is in the repository.

        Files outside of the repository must not be accessed: that could start a device, mount something or
        wait for a server forever.

        Raises:
            OSError: As open(2); EXDEV if it leads out.
        """
        place = "/".join([*parents, last])
        for _ in range(_MAX_LINKS):
            try:
                return openat2(self._root, place, os.O_PATH)
            except OSError as error:
                if error.errno != errno.EXDEV:
                    raise
            # Out and in again, or by the absolute path of the repository.
            place = self._follow_link(place)
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), place)

    def _follow_link(self, place: str) -> str:
        """Return where a link in the repository leads, as a path below the repository.

        Raises:
            OSError: EXDEV if it leads out.
        """
        *parents, last = place.split("/")
        with self.open_directory(parents) as directory:
            text = os.readlink(last, dir_fd=directory)
        root = os.readlink(f"/proc/self/fd/{self._root}")
        target = os.path.normpath(os.path.join(root, *parents, text))
        if not target.startswith(f"{root}/"):
            raise OSError(errno.EXDEV, "leads out of the repository", place)
        return target[len(root) + 1 :]

    def sync(self, directory: int) -> None:
        """Make the entries of a directory durable, unless the repository is not synced at all."""
        if self.is_synced:
            os.fsync(directory)
