"""Writing aboot payloads to a partition or a file."""

from __future__ import annotations

import contextlib
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
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.boot.entries import BootFile
    from cfsctl.repository import Repository

_BLKGETSIZE64: Final = 0x80081272


class TargetError(CfsError):
    """A place that a payload cannot be written to."""

    exit_code = ExitCode.USAGE


class _Device:
    """A block device, which is written in place."""

    def __init__(self, repository: Repository, file: BootFile, target: str) -> None:
        self._repository, self._file = repository, file
        # O_EXCL: a device that is mounted or otherwise in use is refused by the kernel.
        self._fd = os.open(target, os.O_RDWR | os.O_EXCL | os.O_CLOEXEC)
        try:
            _check_room(target, size_of(file.node), _device_size(self._fd))
            for _ in iter_content(repository, file.node):
                pass  # a damaged object is noticed before the old payload is gone
        except BaseException:
            self.close()
            raise

    def write(self) -> None:
        for piece in iter_content(self._repository, self._file.node):
            write_all(self._fd, piece)
        os.fsync(self._fd)

    def close(self) -> None:
        os.close(self._fd)


def _check_room(target: str, size: int, room: int) -> None:
    if size > room:
        raise NoSpaceError(
            errno.ENOSPC,
            f"{target}: the payload has {size} bytes, the device {room}; nothing was written",
            hint="name the partition that is meant for it",
        )


class _File:
    """A regular file, which another one replaces."""

    def __init__(self, repository: Repository, file: BootFile, target: str) -> None:
        parent, self._name = os.path.split(os.path.abspath(target))
        with contextlib.ExitStack() as opened:
            self._dirfd = os.open(parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            opened.callback(os.close, self._dirfd)
            self._new = opened.enter_context(AnonymousFile(self._dirfd))
            for piece in iter_content(repository, file.node):
                write_all(self._new.fd, piece)
            os.fsync(self._new.fd)
            self._opened = opened.pop_all()

    def write(self) -> None:
        self._new.replace(self._dirfd, self._name)
        fsync_directory(self._dirfd)

    def close(self) -> None:
        self._opened.close()


@contextlib.contextmanager
def open_targets(
    repository: Repository, payloads: Iterable[tuple[str, BootFile]]
) -> Iterator[Callable[[], None]]:
    """Yield what writes payloads to their targets, all of which are there, free, and large enough.

    So nothing is written to one of them if another one cannot take its payload: a slot with a new vbmeta
    image and an old payload does not boot.

    Args:
        repository: Has the content.
        payloads: Targets and their files, in the order in which they are written. A block device is written
            in place, a regular file replaced by a rename.

    Raises:
        TargetError: A target is neither.
        NoSpaceError: A device is too small.
        DigestMismatchError: The content is not what its name says.
        OSError: A target cannot be written, or is in use.
    """
    with contextlib.ExitStack() as opened:
        targets: list[_Device | _File] = []
        for target, file in payloads:
            targets.append(_open_target(repository, file, target))
            opened.callback(targets[-1].close)

        def write() -> None:
            for one in targets:
                one.write()

        yield write


def _open_target(repository: Repository, file: BootFile, target: str) -> _Device | _File:
    try:
        mode = os.stat(target).st_mode
    except FileNotFoundError:
        mode = stat.S_IFREG
    if stat.S_ISBLK(mode):
        return _Device(repository, file, target)
    if stat.S_ISREG(mode):
        return _File(repository, file, target)
    raise TargetError(f"{target}: expected a block device or a regular file")


def _device_size(fd: int) -> int:
    return int.from_bytes(fcntl.ioctl(fd, _BLKGETSIZE64, bytes(8)), "little")
