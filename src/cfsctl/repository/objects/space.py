"""Errors for a full file system, which say which one it is, and how much space is missing."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode, RepositoryError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import NoReturn

_NO_SPACE: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_NEEDED: Final = "needed_bytes"
"""Attribute of an `OSError`: what the operation would still have stored."""

_HINT: Final = (
    "free some space, for example with `cfsctl gc`, and run the same command again; complete objects"
    " are kept; for pulls, `ostree pull --plan` says how much is needed"
)


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


@contextlib.contextmanager
def needing(count_bytes: Callable[[OSError], int | None]) -> Iterator[None]:
    """Note in an error for a full file system how much the work in this block still had to store.

    Args:
        count_bytes: Called with such an error; returns how many bytes at least are not stored yet, or None
            if that is not known.
    """
    try:
        yield
    except OSError as error:
        if is_no_space(error) and _NEEDED not in error.__dict__:
            with contextlib.suppress(CfsError, OSError):  # the first error is the one to tell
                error.__dict__[_NEEDED] = count_bytes(error)
        raise


def is_no_space(error: BaseException | None) -> bool:
    """Return whether a system call has failed because a file system is full, or a quota used up."""
    is_kernels = isinstance(error, OSError) and not isinstance(error, RepositoryError)
    return is_kernels and getattr(error, "errno", None) in _NO_SPACE


def explain_no_space(error: BaseException | None, dirfd: int, what: str, *, hint: str = _HINT) -> None:
    """Raise an error that names the repository if this one is that its file system is full.

    Args:
        error: What ended the work on the repository, or None.
        dirfd: Its directory, borrowed.
        what: What to call it: ``repository PATH``.
        hint: What to do about it.

    Raises:
        NoSpaceError: It is.
    """
    if is_no_space(error):
        assert isinstance(error, OSError)
        _raise(error, dirfd, what, hint)


def _raise(error: OSError, dirfd: int, what: str, hint: str) -> NoReturn:
    number = error.errno or errno.ENOSPC
    usual = os.strerror(number)
    free, inodes, where = _measure(number, dirfd)
    # Names in there are mostly our own temporary ones; a text that is not the usual one says more.
    detail = "" if error.strerror in {None, usual} else f": {_text(error)}"
    need = _describe_need(getattr(error, _NEEDED, None), free)
    raise NoSpaceError(
        number,
        f"{what}: {usual} (now {free} bytes and {inodes} inodes free {where}{need}){detail}",
        hint=hint,
    ) from error


def _measure(number: int, dirfd: int) -> tuple[int, int, str]:
    """Return the free bytes and inodes, and of what they are: the quota, if that is used up."""
    found = os.fstatvfs(dirfd)
    free, inodes, where = found.f_bavail * found.f_frsize, found.f_favail, "on its file system"
    if number == errno.EDQUOT:
        from cfsctl.linux.quota import read_quota_room

        quota_bytes, quota_inodes = read_quota_room(dirfd)
        if quota_bytes is not None or quota_inodes is not None:
            where = "of the quota"
            free = free if quota_bytes is None else min(free, quota_bytes)
            inodes = inodes if quota_inodes is None else min(inodes, quota_inodes)
    return free, inodes, where


def _describe_need(needed: object, free: int) -> str:
    if not isinstance(needed, int) or needed <= 0:
        return ""
    missing = f": {needed - free} bytes are missing" if needed > free else ""
    return f"; at least {needed} bytes are still to be stored{missing}"


def _text(error: OSError) -> str:
    name = error.filename
    return f"{os.fsdecode(name)}: {error.strerror}" if isinstance(name, (str, bytes)) else str(error.strerror)
