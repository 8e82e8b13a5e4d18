"""State files that are only trusted if no other user can have written them.

The file's owner and mode are not sufficient. An attacker who can write to the directory can give the file's
name to any other file of the same owner, such as an object of the store with chosen content. So both are
checked:

* the directory belongs to this user or to root, and no other user may write to it, sticky or not;
* the file is a regular file with one link, belongs to one of the two, and no other user may write to it.

An access control list that lets another user write shows in the group's permission bits.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from cfsctl.linux.files import open_regular, read_all

_WRITABLE_BY_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH


class NotPrivateError(PermissionError):
    """A file or directory that another user can have written to.

    Attributes:
        hint: What to do about it.
    """

    hint = "make it one that only you or root can write: chown, chmod go-w; then look at what it says"

    def __str__(self) -> str:
        """Return the message without the number of an error that no system call has given."""
        return f"{self.filename}: {self.strerror}"


def check_private_directory(dirfd: int, name: str = "directory") -> None:
    """Check that only this user and root can create names in a directory.

    Args:
        dirfd: The directory, borrowed.
        name: What a message calls it.

    Raises:
        NotPrivateError: Another user can.
    """
    _check(os.fstat(dirfd), name)


def is_private_directory(dirfd: int) -> bool:
    """Return whether only this user and root can create names in a directory."""
    try:
        check_private_directory(dirfd)
    except NotPrivateError:
        return False
    return True


def check_private_file(fd: int, name: str) -> None:
    """Check that only this user and root can have written to an open file.

    Args:
        fd: The file, borrowed.
        name: What a message calls it.

    Raises:
        NotPrivateError: Another user can have.
    """
    status = os.fstat(fd)
    _check(status, name)
    if status.st_nlink > 1:
        raise NotPrivateError(1, f"expected a file of one name, found {status.st_nlink}", name)


def _check(status: os.stat_result, name: str) -> None:
    if status.st_uid not in {0, os.geteuid()}:
        raise NotPrivateError(1, f"expected owner {os.geteuid()} or root, found {status.st_uid}", name)
    if status.st_mode & _WRITABLE_BY_OTHERS:
        mode = stat.S_IMODE(status.st_mode)
        raise NotPrivateError(1, f"expected write permission for the owner only, found mode {mode:04o}", name)


def open_private(dirfd: int, name: str) -> int:
    """Open a file for reading that only this user and root can have written; see above.

    Args:
        dirfd: Its directory, borrowed.
        name: The file's name in there.

    Returns:
        A descriptor that the caller owns.

    Raises:
        NotPrivateError: Another user can have written it, or given it its name.
        OSError: As `open_regular`.
    """
    fd = open_regular(dirfd, name)
    try:
        check_private_directory(dirfd, f"directory of {name}")
        check_private_file(fd, name)
    except BaseException:
        os.close(fd)
        raise
    return fd


def read_private(dirfd: int, name: str, limit_bytes: int) -> bytes:
    """Return the content of such a file.

    Raises:
        NotPrivateError: See `open_private`.
        OSError: The same; EFBIG when there is more than `limit_bytes`.
    """
    fd = open_private(dirfd, name)
    try:
        return read_all(fd, limit_bytes)
    finally:
        os.close(fd)
