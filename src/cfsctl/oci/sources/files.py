"""Files of a layout: below a directory, or in an archive."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.linux.files import open_regular
from cfsctl.oci.source import FileRange, ImageNotFoundError, SourceError

if TYPE_CHECKING:
    from cfsctl.oci.source import BlobReader


_NO_FILE: Final = frozenset({errno.EINVAL, errno.EISDIR, errno.ELOOP, errno.ENOTDIR, errno.ENXIO})
"""What the kernel or `open_regular` says of links, directories, pipes and devices."""


class LayoutFiles(Protocol):
    """The files of one layout, by their paths in it. May be used in forked processes at the same time."""

    @property
    def path(self) -> str:
        """Where they are, for messages."""

    def open(self, name: str) -> BlobReader:
        """Open a file.

        Args:
            name: Relative path without ``.`` and ``..``.

        Raises:
            FileNotFoundError: None exists.
            OSError: It cannot be read.
        """

    def close(self) -> None:
        """Release everything; may be called again."""


class DirectoryFiles:
    """The files below a directory; no links are followed in it.

    Attributes:
        path: The directory.
    """

    def __init__(self, path: str) -> None:
        """Open the directory.

        Raises:
            ImageNotFoundError: None exists.
        """
        self.path = path
        try:
            self._fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NONBLOCK | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ImageNotFoundError(f"image directory {path}: {error.strerror}") from error

    def open(self, name: str) -> BlobReader:
        """Open a file, component by component.

        Raises:
            SourceError: There is something else, such as a link.
        """
        try:
            return self._open(name)
        except OSError as error:
            if error.errno not in _NO_FILE:
                raise
            raise SourceError(f"{self.path}/{name}: expected a regular file, not below a link") from error

    def _open(self, name: str) -> BlobReader:
        *parents, last = name.split("/")
        directory = os.dup(self._fd)
        try:
            for parent in parents:
                flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                inner = os.open(parent, flags, dir_fd=directory)
                os.close(directory)
                directory = inner
            fd = open_regular(directory, last)
        finally:
            os.close(directory)
        return FileRange(fd, 0, os.fstat(fd).st_size, owns=True)

    def close(self) -> None:
        """Close the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def open_archive_file(path: str) -> int:
    """Open a regular file that the user names, through links, and never wait for anything.

    Raises:
        ImageNotFoundError: None exists.
        SourceError: It is something else.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise ImageNotFoundError(f"image archive {path}: {error.strerror}") from error
    except OSError as error:
        if error.errno != errno.ENXIO:
            raise
        raise SourceError(f"image archive {path}: expected a regular file") from error
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise SourceError(f"image archive {path}: expected a regular file")
    return fd
