"""The directories that contain objects, each opened once."""

from __future__ import annotations

import os
import resource
from typing import Final

from cfsctl.linux.error_paths import relative_to
from cfsctl.linux.files import make_directory

OBJECTS: Final = "objects"

_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MODE: Final = 0o755

_BYTES_OF_A_NAME: Final = 128
"""What a name takes of a directory's size, on most file systems, or more."""

_NAMES_OF_A_LOOK: Final = 6
"""How many names can be read in the time that it takes to look for one."""

_SHARE: Final = 4
"""One in this many of the descriptors that the process may hold is kept here; of 1024, one for each."""


class FanOut:
    """Descriptors of ``objects`` and of the up to 256 directories in it.

    Opened when first needed and kept: a name relative to its own directory is looked up faster, and
    no link is followed that an attacker puts in place of a directory later.
    """

    def __init__(self, dirfd: int, name: str = OBJECTS) -> None:
        """Open nothing yet.

        Args:
            dirfd: The repository's directory, borrowed; must stay open.
            name: The directory of objects below it, or ``.``.
        """
        self._root = dirfd
        self._name = name
        self._most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // _SHARE
        self._objects = -1
        self._opened: dict[str, int] = {}

    def close(self) -> None:
        """Close the descriptors; they are opened again when needed."""
        self._drop()
        fd, self._objects = self._objects, -1
        if fd >= 0:
            os.close(fd)

    def objects(self, *, create: bool = False) -> int:
        """Return an O_PATH descriptor of ``objects``, borrowed.

        Raises:
            FileNotFoundError: There is no such directory, and `create` is false.
            OSError: It is a link or no directory.
        """
        if self._objects < 0:
            if create:
                _make(self._root, self._name)
            self._objects = os.open(self._name, _FLAGS, dir_fd=self._root)
        return self._objects

    def directory(self, prefix: str, *, create: bool = False) -> int:
        """Return an O_PATH descriptor of ``objects/xx``, borrowed until the next call.

        Raises:
            FileNotFoundError: There is no such directory, and `create` is false.
            OSError: It is a link or no directory.
        """
        fd = self._opened.get(prefix)
        if fd is None:
            if len(self._opened) >= self._most:
                self._drop()
            fd = self._opened[prefix] = self._open(prefix, create=create)
        return fd

    def _open(self, prefix: str, *, create: bool) -> int:
        objects = self.objects(create=create)
        with relative_to(self._name):
            try:
                return os.open(prefix, _FLAGS, dir_fd=objects)
            except FileNotFoundError:
                if not create:
                    raise
            _make(objects, prefix)
            return os.open(prefix, _FLAGS, dir_fd=objects)

    def _drop(self) -> None:
        descriptors = list(self._opened.values())
        self._opened.clear()
        for fd in descriptors:
            os.close(fd)

    def names(self, prefix: str) -> list[str]:
        """Return the names in ``objects/xx``, in no particular order; none if there is no such directory."""
        try:
            directory = self.directory(prefix)
        except FileNotFoundError:
            return []
        fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=directory)
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def find_absent(self, prefix: str, names: set[str]) -> set[str]:
        """Return which of many names are not in ``objects/xx``; all if there is no such directory.

        Reads the directory or looks for each name, by what is likely to be faster: a few names of a large
        directory must not take the time of all that are in it.

        Raises:
            OSError: The directory cannot be read or searched.
        """
        try:
            directory = self.directory(prefix)
        except FileNotFoundError:
            return names
        listed = os.stat(directory).st_size // _BYTES_OF_A_NAME
        if len(names) * _NAMES_OF_A_LOOK >= listed:
            return names.difference(self.names(prefix))
        return {name for name in names if not _is_there(name, directory)}


def _is_there(name: str, directory: int) -> bool:
    try:
        os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _make(dirfd: int, name: str) -> None:
    try:
        make_directory(name, _MODE, dirfd)
    except FileExistsError:
        return
