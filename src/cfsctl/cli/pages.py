"""Pages, as a command writes them to a file or to standard output."""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

import click

from cfsctl.cli.output import write_chunk

if TYPE_CHECKING:
    from collections.abc import Iterable

STDOUT: Final = "-"
DATE_LIMIT: Final = 10**12


def check_page_path(path: str) -> None:
    """Refuse a path that no page can be written to, before any work is done.

    Raises:
        BadParameter: There is no such directory, or something else than a file has the name.
    """
    if path == STDOUT:
        return
    target = os.path.realpath(path)
    if not path or path.endswith("/") or not os.path.isdir(os.path.dirname(target)):
        raise click.BadParameter(f"{path!r}: expected a file in a directory that exists")
    if os.path.lexists(target) and not os.path.isfile(target):
        raise click.BadParameter(f"{path!r}: expected a new file or a regular one; - is standard output")


def write_page(pieces: Iterable[bytes], path: str) -> int:
    """Write a page, in place of a file that may be there, as a whole or not at all.

    Args:
        pieces: Its pieces.
        path: The file; links are followed. ``-`` is standard output.

    Returns:
        Its size in bytes.

    Raises:
        OSError: It cannot be written; a file that was there is as it was.
    """
    if path == STDOUT:
        size = 0
        for piece in pieces:
            write_chunk(piece)
            size += len(piece)
        return size
    from cfsctl.linux.error_paths import relative_to  # only where there is a page
    from cfsctl.linux.files import AnonymousFile, read_umask, write_all

    target = os.path.realpath(path)
    directory = os.path.dirname(target)
    dirfd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with relative_to(directory), AnonymousFile(dirfd, 0o666 & ~read_umask()) as file:
            for piece in pieces:
                write_all(file.fd, piece)
            size = os.fstat(file.fd).st_size
            os.fsync(file.fd)
            _check_still_a_file(dirfd, os.path.basename(target), path)
            file.replace(dirfd, os.path.basename(target))
    finally:
        os.close(dirfd)
    return size


def _check_still_a_file(dirfd: int, name: str, path: str) -> None:
    """Refuse to replace what took the place of the file while the page was drawn."""
    try:
        mode = os.stat(name, dir_fd=dirfd, follow_symlinks=False).st_mode
    except FileNotFoundError:
        return
    if not stat.S_ISREG(mode):
        raise OSError(errno.EEXIST, "expected a regular file, found something else", path)
