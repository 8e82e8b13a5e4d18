"""Overlays on directories of the new root, and memory for what must not stay.

Kernels before 6.15 take layers of an overlay only from mounts that are attached somewhere, and older ones
only by path. So both ways are tried, and nothing has to be known when this is built.
"""

from __future__ import annotations

import errno
import os
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Final

from cfsctl.linux.files import make_directory
from cfsctl.linux.mountapi import fsconfig_create, fsconfig_fd, fsconfig_string, fsmount, fsopen
from cfsctl.mount import attached

if TYPE_CHECKING:
    from collections.abc import Iterator

_NO_DESCRIPTOR: Final = {errno.EINVAL, errno.ENOSYS, errno.EBADF}
"""What a kernel says that takes layers by path only, or none from a mount that is attached nowhere."""

_FLAGS: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

UPPER_MODE: Final = 0o755
"""The merged directory takes its mode from the upper layer."""

WORK_MODE: Final = 0o700


def open_directory(dirfd: int, name: str) -> int:
    """Open a directory without following a link in its place; owned by the caller."""
    return os.open(name, _FLAGS, dir_fd=dirfd)


def make_overlay(lower: int, upper: int, work: int, source: str) -> int:
    """Return a writable overlay that is attached nowhere; owned by the caller.

    Args:
        lower: Directory of an attached mount, borrowed.
        upper: Directory for changes, borrowed.
        work: Empty directory on the same file system, borrowed.
        source: What the mount shows as its source.

    Raises:
        OSError: The kernel refuses.
    """
    try:
        return _create(source, {"lowerdir+": lower, "upperdir": upper, "workdir": work}, by_path=False)
    except OSError as error:
        if error.errno not in _NO_DESCRIPTOR:
            raise
    return _create(source, {"lowerdir": lower, "upperdir": upper, "workdir": work}, by_path=True)


def _create(source: str, layers: dict[str, int], *, by_path: bool) -> int:
    context = fsopen("overlay")
    try:
        fsconfig_string(context, "source", source)
        for key, fd in layers.items():
            if by_path:
                fsconfig_string(context, key, f"/proc/self/fd/{fd}")
            else:
                fsconfig_fd(context, key, fd)
        fsconfig_create(context)
        return fsmount(context)
    finally:
        os.close(context)


def make_transient(lower: int) -> int:
    """Return an overlay whose changes go to memory, attached nowhere; owned by the caller.

    Raises:
        OSError: The kernel refuses.
    """
    with ExitStack() as stack:
        memory = _make_tmpfs()
        stack.callback(os.close, memory)
        # While it is attached, because older kernels take no layers from mounts that are not.
        stack.enter_context(attached(memory))
        upper, work = stack.enter_context(writable_directories(memory))
        return make_overlay(lower, upper, work, "transient")


def _make_tmpfs() -> int:
    context = fsopen("tmpfs")
    try:
        fsconfig_string(context, "source", "transient")
        fsconfig_string(context, "mode", "0755")
        fsconfig_create(context)
        return fsmount(context)
    finally:
        os.close(context)


@contextmanager
def writable_directories(parent: int) -> Iterator[tuple[int, int]]:
    """Yield ``upper`` and ``work`` of a directory, which are made where they are missing."""
    with ExitStack() as stack:
        opened = []
        for name, mode in (("upper", UPPER_MODE), ("work", WORK_MODE)):
            try:
                fd = open_directory(parent, name)
            except FileNotFoundError:
                make_directory(name, mode, parent)
                fd = open_directory(parent, name)
            stack.callback(os.close, fd)
            opened.append(fd)
        upper, work = opened
        yield upper, work
