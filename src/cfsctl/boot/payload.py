"""Writing aboot payloads to a partition or a file."""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.boot.contents import iter_content, size_of
from cfsctl.errors import CfsError, ExitCode
from cfsctl.linux.files import AnonymousFile, fsync_directory
from cfsctl.linux.sparse import write_all
from cfsctl.repository.objects.space import NoSpaceError

if TYPE_CHECKING:
    from cfsctl.boot.entries import BootFile
    from cfsctl.repository import Repository

_BLKGETSIZE64: Final = 0x80081272


class TargetError(CfsError):
    """A place that a payload cannot be written to."""

    exit_code = ExitCode.USAGE


def write_payload(repository: Repository, file: BootFile, target: str) -> None:
    """Write a file of the tree to a block device in place, or to a regular file by a rename.

    Raises:
        TargetError: The target is neither.
        NoSpaceError: The device is too small; nothing was written.
        DigestMismatchError: The content is not what its name says.
        OSError: It cannot be written.
    """
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISBLK(mode):
        _write_device(repository, file, target)
    elif stat.S_ISREG(mode):
        _write_file(repository, file, target)
    else:
        raise TargetError(f"{target}: expected a block device or a regular file")


def _write_file(repository: Repository, file: BootFile, target: str) -> None:
    parent, name = os.path.split(os.path.abspath(target))
    dirfd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with AnonymousFile(dirfd) as new:
            for piece in iter_content(repository, file.node):
                write_all(new.fd, piece)
            os.fsync(new.fd)
            new.replace(dirfd, name)
            fsync_directory(dirfd)
    finally:
        os.close(dirfd)


def _write_device(repository: Repository, file: BootFile, target: str) -> None:
    # O_EXCL: a device that is mounted or otherwise in use is refused by the kernel.
    fd = os.open(target, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
    try:
        size, room = size_of(file.node), _device_size(fd)
        if size > room:
            raise NoSpaceError(
                errno.ENOSPC,
                f"{target}: the payload has {size} bytes, the device {room}; nothing was written",
                hint="name the partition that is meant for it",
            )
        for _ in iter_content(repository, file.node):
            pass  # a damaged object is noticed before the old payload is gone
        for piece in iter_content(repository, file.node):
            write_all(fd, piece)
        os.fsync(fd)
    finally:
        os.close(fd)


def _device_size(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)), "little")
