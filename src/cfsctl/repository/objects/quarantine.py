"""The quarantine: where a repair moves unusable files from ``objects`` instead of deleting them.

.cfsctl-quarantine/     0700, in the repository's directory; neither gc nor fsck looks into it
xxrest                an object whose content is not what its name says
xxrest.1              the next one of that name
"""

from __future__ import annotations

import contextlib
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.linux.files import make_directory
from cfsctl.linux.flags import DIRECTORY_FLAGS

if TYPE_CHECKING:
    from typing import Self

QUARANTINE: Final = ".cfsctl-quarantine"

_MODE: Final = 0o700
_MAX_OF_ONE_NAME: Final = 10_000


class Quarantine:
    """The quarantine of one repository; made when it is first needed.

    A context manager that closes what it has opened.
    """

    def __init__(self, dirfd: int) -> None:
        """Open nothing yet.

        Args:
            dirfd: The repository's directory, borrowed.
        """
        self._root = dirfd
        self._fd = -1

    def _open(self) -> int:
        if self._fd < 0:
            with contextlib.suppress(FileExistsError):
                make_directory(QUARANTINE, _MODE, self._root)
            self._fd = os.open(QUARANTINE, DIRECTORY_FLAGS, dir_fd=self._root)
        return self._fd

    def keep(self, path: str, *, move: bool) -> None:
        """Move a file below ``objects`` to the quarantine.

        Args:
            path: ``xx/name``.
            move: Take it away from where it is. Otherwise a file is kept as a second link, to be replaced or
                removed, so that its name is never without content while it is replaced.

        Raises:
            OSError: It is where it was.
        """
        fan_out, _, name = path.partition("/")
        objects = os.open("objects", DIRECTORY_FLAGS, dir_fd=self._root)
        try:
            directory = os.open(fan_out, DIRECTORY_FLAGS, dir_fd=objects)
        finally:
            os.close(objects)
        try:
            is_file = stat.S_ISREG(os.stat(name, dir_fd=directory, follow_symlinks=False).st_mode)
            target = self._free_name(fan_out + name)
            if is_file:
                os.link(name, target, src_dir_fd=directory, dst_dir_fd=self._open(), follow_symlinks=False)
                if move:
                    # By the same descriptor: a path could lead elsewhere by now, and to a file of root.
                    os.unlink(name, dir_fd=directory)
            else:
                os.rename(name, target, src_dir_fd=directory, dst_dir_fd=self._open())
        finally:
            os.close(directory)

    def _free_name(self, name: str) -> str:
        """Return a name that nothing in quarantine has; repairs are alone in the repository."""
        name = name[:200]
        for number in range(_MAX_OF_ONE_NAME):
            candidate = f"{name}.{number}" if number else name
            try:
                os.stat(candidate, dir_fd=self._open(), follow_symlinks=False)
            except FileNotFoundError:
                return candidate
        raise FileExistsError(17, os.strerror(17), f"{QUARANTINE}/{name}")

    def close(self) -> None:
        """Close the directory; may be called again."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Return the quarantine itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it."""
        self.close()
