"""Count the EROFS file systems that the kernel has, in all namespaces.

Each has a directory in ``/sys/fs/erofs`` from its first mount until its last use ends, even after it has
disappeared from all mount tables. The directory is the same in all namespaces.
"""

from __future__ import annotations

import os
import re
from typing import Final

from cfsctl.linux.syscalls import file_system_type

_PLACE: Final = "/sys/fs"
_SYSFS_MAGIC: Final = 0x62656572
_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_NO_INSTANCES: Final = {"features"}
_FIRST_RELEASE: Final = (5, 16)
"""The first Linux that lists them."""


def count_erofs() -> int | None:
    """Return how many EROFS file systems there are, or None if the kernel does not tell."""
    try:
        directory = os.open(_PLACE, _FLAGS)
    except OSError:
        return None
    try:
        return _count_in(directory)
    except OSError:
        return None
    finally:
        os.close(directory)


def _count_in(directory: int) -> int | None:
    try:
        fd = os.open("erofs", _FLAGS, dir_fd=directory)
    except FileNotFoundError:
        # The module is not loaded, so there are none, if this is sysfs and not a container's replacement of
        # it.
        is_told = file_system_type(directory) == _SYSFS_MAGIC and _find_release() >= _FIRST_RELEASE
        return 0 if is_told else None
    try:
        if file_system_type(fd) != _SYSFS_MAGIC:
            return None
        return len(set(os.listdir(fd)) - _NO_INSTANCES)
    finally:
        os.close(fd)


def _find_release() -> tuple[int, int]:
    match = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(match[1]), int(match[2])) if match else (0, 0)
