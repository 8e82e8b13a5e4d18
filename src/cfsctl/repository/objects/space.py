"""Errors for a full file system, which say which file system it is."""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import ExitCode, RepositoryError

if TYPE_CHECKING:
    from typing import NoReturn

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})


class NoSpaceError(RepositoryError, OSError):
    """The file system of a repository, or the quota there, is full."""

    exit_code = ExitCode.NO_SPACE

    def __init__(self, number: int, message: str, *, hint: str) -> None:
        """Store errno, message and hint."""
        OSError.__init__(self, number, message)
        self.hint = hint

    def __str__(self) -> str:
        """Return the message alone."""
        return str(self.strerror)


def explain_no_space(error: BaseException | None, dirfd: int, what: str) -> None:
    """Raise an error that names the repository if this one is that its file system is full.

    Args:
        error: What ended the work on the repository, or None.
        dirfd: Its directory, borrowed.
        what: What to call it: ``repository PATH``.

    Raises:
        NoSpaceError: It is.
    """
    if isinstance(error, OSError) and error.errno in _NO_SPACE and not isinstance(error, RepositoryError):
        _raise(error, dirfd, what)


def _raise(error: OSError, dirfd: int, what: str) -> NoReturn:
    number = error.errno or errno.ENOSPC
    usual = os.strerror(number)
    found = os.fstatvfs(dirfd)
    free = f"{found.f_bavail * found.f_frsize} bytes and {found.f_favail} inodes free"
    # Names in there are mostly our own temporary ones; a text that is not the usual one says more.
    detail = "" if error.strerror in {None, usual} else f": {_text(error)}"
    raise NoSpaceError(
        number,
        f"{what}: {usual} (now {free} on its file system){detail}",
        hint="free some space, for example with `cfsctl gc`, and run the same command again; complete objects"
        " are kept; for pulls, `ostree pull --plan` says how much is needed",
    ) from error


def _text(error: OSError) -> str:
    name = error.filename
    return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else str(error.strerror)
