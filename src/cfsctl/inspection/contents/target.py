"""The directory that a tree is copied to: new, and complete when it gets its name, or an empty one."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.inspection.contents.open_directories import OpenDirectories
from cfsctl.linux.files import random_name
from cfsctl.linux.syscalls import RENAME_NOREPLACE, renameat2
from cfsctl.repository.objects.space import explain_no_space, is_no_space

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX: Final = ".cfsctl-extract-"
_FULL_HINT: Final = "nothing was left there; free some space, or name a directory on another file system"
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_WORLD_WRITABLE: Final = 0o002


class TargetError(CfsError):
    """A directory that nothing can be extracted to."""

    exit_code = ExitCode.USAGE


@contextlib.contextmanager
def new_directory(path: str) -> Iterator[int]:
    """Yield a descriptor of an empty directory, which has its name once the block has ended well.

    If `path` exists, it must be an empty directory, and is used as it is. If the block fails, everything in
    the directory is removed again.

    Raises:
        TargetError: Something is in the way.
        OSError: The directory cannot be made.
    """
    try:
        fd = os.open(path, _DIRECTORY)
    except FileNotFoundError:
        with _made(path) as fd:
            yield fd
        return
    except NotADirectoryError:
        raise TargetError(f"{path}: expected a new or empty directory, found a file") from None
    try:
        _check_empty(fd, path)
        with _emptied_on_failure(fd):
            yield fd
    finally:
        os.close(fd)


def explain_full_target(error: OSError, path: str) -> None:
    """Raise an error that names the target if this one is that its file system is full.

    Raises:
        NoSpaceError: It is.
    """
    if not is_no_space(error):
        return
    place = path if os.path.isdir(path) else os.path.dirname(path.rstrip("/")) or "."
    fd = os.open(place, _DIRECTORY)
    try:
        explain_no_space(error, fd, f"directory {path}", hint=_FULL_HINT)
    finally:
        os.close(fd)


def _check_empty(fd: int, path: str) -> None:
    status = os.fstat(fd)
    if os.listdir(fd):
        raise TargetError(
            f"{path}: expected a new or empty directory, found one with entries",
            hint="name a directory that does not exist yet",
        )
    # Another user who may write to it could put directories of his own in the place of new ones.
    if status.st_uid != os.geteuid() or stat.S_IMODE(status.st_mode) & _WORLD_WRITABLE:
        raise TargetError(
            f"{path}: expected a directory that only you may write to",
            hint="name a directory that does not exist yet",
        )


@contextlib.contextmanager
def _made(path: str) -> Iterator[int]:
    """Make the directory under a temporary name beside its own."""
    parent_path, name = os.path.split(path.rstrip("/") or "/")
    parent = os.open(parent_path or ".", _DIRECTORY)
    try:
        temporary = random_name(_PREFIX)
        os.mkdir(temporary, 0o700, dir_fd=parent)
        try:
            fd = os.open(temporary, _DIRECTORY | os.O_NOFOLLOW, dir_fd=parent)
            try:
                with _emptied_on_failure(fd):
                    yield fd
                    _rename(parent, temporary, name, path)
            finally:
                os.close(fd)
        except BaseException:
            with contextlib.suppress(OSError):
                os.rmdir(temporary, dir_fd=parent)
            raise
    finally:
        os.close(parent)


def _rename(parent: int, temporary: str, name: str, path: str) -> None:
    try:
        renameat2(parent, temporary, parent, name, RENAME_NOREPLACE)
    except FileExistsError:
        raise TargetError(f"{path}: another process has created it in the meantime") from None
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOSYS}:
            raise
        os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)


@contextlib.contextmanager
def _emptied_on_failure(fd: int) -> Iterator[None]:
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError, CfsError):
            remove_entries(fd)
        raise


def remove_entries(fd: int) -> None:
    """Remove everything in an open directory, however deep.

    Raises:
        OSError: Something cannot be removed; the rest stays.
    """
    with OpenDirectories(fd) as where:
        os.fchmod(where.current, 0o700)
        pending = [[os.fsencode(name) for name in os.listdir(where.current)]]
        trail: list[bytes] = []
        while True:
            if pending[-1]:
                name = pending[-1].pop()
                if not _is_directory(where.current, name):
                    os.unlink(name, dir_fd=where.current)
                    continue
                os.chmod(name, 0o700, dir_fd=where.current)  # it may be one that its owner may not enter
                where.enter(name)
                trail.append(name)
                pending.append([os.fsencode(each) for each in os.listdir(where.current)])
                continue
            pending.pop()
            if not trail:
                return
            where.leave()
            os.rmdir(trail.pop(), dir_fd=where.current)


def _is_directory(dirfd: int, name: bytes) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=dirfd, follow_symlinks=False).st_mode)
