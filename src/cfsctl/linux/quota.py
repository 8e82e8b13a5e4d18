"""What a user or group may still store on a file system with quotas."""

from __future__ import annotations

import os
import struct
from typing import Final

from cfsctl.linux.syscalls import syscall

_NR_QUOTACTL_FD: Final = 443
"""Since Linux 5.14; older calls want the path of a device, which not every file system has."""

_GET_QUOTA: Final = 0x800007
_USER: Final = 0
_GROUP: Final = 1

_DQBLK: Final = struct.Struct("=8QI4x")
"""struct if_dqblk of linux/quota.h: limits of blocks, bytes in use, limits of inodes, inodes in use, times;
blocks have 1024 bytes."""

_BLOCK_BYTES: Final = 1024


def read_quota_room(fd: int) -> tuple[int | None, int | None]:
    """Return how many bytes and inodes the quotas of this user and group leave; None where there is no limit.

    Args:
        fd: Anything on the file system, borrowed; not opened as a path only.
    """
    user, group = _read(fd, _USER, os.geteuid()), _read(fd, _GROUP, os.getegid())
    return _smallest(user[0], group[0]), _smallest(user[1], group[1])


def _read(fd: int, kind: int, number: int) -> tuple[int | None, int | None]:
    buffer = bytearray(_DQBLK.size)
    import ctypes  # only where a quota is used up

    view = (ctypes.c_char * len(buffer)).from_buffer(buffer)
    try:
        syscall(_NR_QUOTACTL_FD, fd, _GET_QUOTA << 8 | kind, number, ctypes.addressof(view))
    except OSError:  # no quotas, or an old kernel
        return None, None
    hard, _, used, inodes_hard, _, inodes, *_ = _DQBLK.unpack(view.raw)
    return (
        max(0, hard * _BLOCK_BYTES - used) if hard else None,
        max(0, inodes_hard - inodes) if inodes_hard else None,
    )


def _smallest(*rooms: int | None) -> int | None:
    return min((room for room in rooms if room is not None), default=None)
