"""Write images to files; after a failure, the old file is unchanged."""

from __future__ import annotations

import errno
import os
import stat
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cfsctl.cli.output import write_chunk
from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from collections.abc import Iterator


class MakeError(CfsError):
    """No image could be made of what was asked for."""


@contextmanager
def about(message: str) -> Iterator[None]:
    """Prefix errors of system calls with the current operation."""
    try:
        yield
    except OSError as error:
        if isinstance(error, CfsError):
            raise
        reason = error.strerror or str(error)
        name = None if error.filename is None else os.fsdecode(error.filename)
        # "." is the directory of a file that has no name yet.
        if name is not None and name != "." and name not in message:
            reason = f"{name}: {reason}"
        raise MakeError(f"{message}: {reason}") from error


def write_image(image: bytearray, path: str) -> None:
    """Write an image to a file, atomically replacing an existing one; ``-`` is standard output.

    Devices and pipes are written to, links are followed.

    Raises:
        MakeError: The file cannot be written.
    """
    if path == "-":
        write_chunk(image)
        return
    with about(f'Failed to create image file: "{path}"'):
        target = os.path.realpath(path)
        try:
            old = os.stat(target)
        except FileNotFoundError:
            old = None
        if old is not None and not stat.S_ISREG(old.st_mode):
            _write_in_place(image, target)
        else:
            _replace(image, target, old)


def _write_in_place(image: bytearray, path: str) -> None:
    """Write to a device or a pipe."""
    from cfsctl.linux.files import write_all

    # Neither a link nor a file that took its place in the meantime is written to.
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_NOCTTY | os.O_CLOEXEC)
    try:
        if stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EEXIST, "was replaced in the meantime", path)
        write_all(fd, image)
    finally:
        os.close(fd)


def _replace(image: bytearray, path: str, old: os.stat_result | None) -> None:
    """Write a temporary file and rename it, so that either the old file or the whole new one exists."""
    from cfsctl.linux.files import AnonymousFile, read_umask, write_all

    mode = stat.S_IMODE(old.st_mode) if old is not None else 0o666 & ~read_umask()
    dirfd = os.open(os.path.dirname(path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with AnonymousFile(dirfd, mode) as file:
            write_all(file.fd, image)
            if old is not None:
                os.fsync(file.fd)
            file.replace(dirfd, os.path.basename(path))
    finally:
        os.close(dirfd)
