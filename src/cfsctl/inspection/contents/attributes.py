"""Set owners, modes, times and extended attributes of new files, as far as the user may."""

from __future__ import annotations

import errno
import os
from collections import Counter
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cfsctl.inspection.diff import Entry

_REFUSED: Final = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.EINVAL})
"""What setxattr(2) answers where the user or the file system may not have an attribute."""

_SET_ID_BITS: Final = 0o6000


class AttributeSetter:
    """Sets the attributes of new files.

    Root sets all of them. Other users own what they make, so they set no owners, and no set-user-ID and
    set-group-ID bits, which would let others act as them.

    Attributes:
        refused: How many files lack an extended attribute that could not be set, by its name.
    """

    def __init__(self, *, is_root: bool) -> None:
        """Set nothing yet.

        Args:
            is_root: Whether owners can be set.
        """
        self._is_root = is_root
        self.refused: Counter[str] = Counter()

    def set_open(self, fd: int, node: Entry) -> None:
        """Set everything for an open file or directory.

        Raises:
            OSError: The file system refuses an owner, a mode or a time.
        """
        # The order matters: chown(2) clears set-ID bits and capabilities, and some attributes need write
        # permission, which the mode may lack.
        if self._is_root:
            os.chown(fd, node.uid, node.gid)
        self._set_xattrs(fd, node)
        os.chmod(fd, self._mode(node))
        os.utime(fd, ns=_times(node))

    def set_named(self, dirfd: int, name: bytes, node: Entry) -> None:
        """Set everything for a link, device, pipe or socket, which is not opened.

        Raises:
            OSError: As `set_open`.
        """
        if self._is_root:
            os.chown(name, node.uid, node.gid, dir_fd=dirfd, follow_symlinks=False)
        if node.xattrs:
            # setxattr(2) has no form with a directory; the name is in a directory that only we may change.
            self._set_xattrs(f"/proc/self/fd/{dirfd}/".encode() + name, node)
        if node.file_type != _SYMLINK:
            os.chmod(name, self._mode(node), dir_fd=dirfd)
        os.utime(name, ns=_times(node), dir_fd=dirfd, follow_symlinks=False)

    def _mode(self, node: Entry) -> int:
        return node.mode if self._is_root else node.mode & ~_SET_ID_BITS

    def _set_xattrs(self, place: int | bytes, node: Entry) -> None:
        for name, value in node.xattrs.items():
            try:
                if isinstance(place, int):
                    os.setxattr(place, name, value)
                else:
                    os.setxattr(place, name, value, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _REFUSED:
                    raise
                self.refused[os.fsdecode(name)] += 1


_SYMLINK: Final = 0o120000


def _times(node: Entry) -> tuple[int, int]:
    """Return the access and modification time in nanoseconds since 1970; trees have only the latter."""
    time_ns = node.mtime_s * 1_000_000_000 + node.mtime_ns
    return time_ns, time_ns
