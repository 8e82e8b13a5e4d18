"""The mount calls of Linux 5.2 and later, umount2 and loop devices.

Calls are named as in their man pages. A configuration error carries what the kernel wrote into the
context's own log, which says far more than the errno.
"""

from __future__ import annotations

import errno
import fcntl
import os
import struct

from cfsctl.linux.syscalls import AT_EMPTY_PATH, AT_FDCWD, check, libc, syscall

_NR_OPEN_TREE = 428
_NR_MOVE_MOUNT = 429
_NR_FSOPEN = 430
_NR_FSCONFIG = 431
_NR_FSMOUNT = 432
_NR_MOUNT_SETATTR = 442

_FSOPEN_CLOEXEC = 1
_FSMOUNT_CLOEXEC = 1
_FSCONFIG_SET_FLAG = 0
_FSCONFIG_SET_STRING = 1
_FSCONFIG_SET_FD = 5
_FSCONFIG_CMD_CREATE = 6
_MOVE_MOUNT_F_EMPTY_PATH = 4

OPEN_TREE_CLONE = 1
OPEN_TREE_CLOEXEC = os.O_CLOEXEC
AT_RECURSIVE = 0x8000

MOUNT_ATTR_RDONLY = 0x00000001
MOUNT_ATTR_NOSUID = 0x00000002
MOUNT_ATTR_NODEV = 0x00000004
MOUNT_ATTR_NOEXEC = 0x00000008
MOUNT_ATTR_IDMAP = 0x00100000

MS_PRIVATE = 1 << 18
MNT_DETACH = 2
UMOUNT_NOFOLLOW = 8

MAX_STRING_BYTES = 255
"""Longest value of `fsconfig_string`; the kernel refuses 256 bytes with the NUL (fs/fsopen.c)."""

_MOUNT_ATTR = struct.Struct("=QQQQ")
"""struct mount_attr: attributes to set, to clear, propagation, user namespace descriptor."""

_LOG_MESSAGE_BYTES = 4096
_MAX_LOG_MESSAGES = 64
"""The kernel keeps 8 messages per context; more than this is not trusted."""


def fsopen(filesystem: str) -> int:
    """Return the descriptor of a new configuration context for a file system type.

    Raises:
        OSError: ENODEV for a type the kernel lacks, ENOSYS before Linux 5.2, EPERM.
    """
    return syscall(_NR_FSOPEN, filesystem.encode() + b"\0", _FSOPEN_CLOEXEC, path=filesystem)


def read_log(fsfd: int) -> list[str]:
    """Take all messages that the kernel has kept for a context, oldest first."""
    messages: list[str] = []
    while len(messages) < _MAX_LOG_MESSAGES:
        try:
            message = os.read(fsfd, _LOG_MESSAGE_BYTES)
        except OSError:  # ENODATA: no more
            break
        messages.append(message.decode("utf-8", "replace").strip())
    return messages


def _fsconfig(fsfd: int, command: int, key: str | None, value: bytes | None, number: int = 0) -> None:
    raw_key = None if key is None else key.encode() + b"\0"
    try:
        syscall(_NR_FSCONFIG, fsfd, command, raw_key, value, number, path=key)
    except OSError as error:
        log = "; ".join(read_log(fsfd))
        if not log:
            raise
        raise OSError(error.errno, f"{error.strerror} ({log})", key) from error


def fsconfig_flag(fsfd: int, key: str) -> None:
    """Set an option that has no value."""
    _fsconfig(fsfd, _FSCONFIG_SET_FLAG, key, None)


def fsconfig_string(fsfd: int, key: str, value: str | bytes) -> None:
    """Set an option to a text of at most `MAX_STRING_BYTES`."""
    _fsconfig(fsfd, _FSCONFIG_SET_STRING, key, os.fsencode(value) + b"\0")


def fsconfig_fd(fsfd: int, key: str, fd: int) -> None:
    """Set an option to an open file."""
    _fsconfig(fsfd, _FSCONFIG_SET_FD, key, None, fd)


def fsconfig_create(fsfd: int) -> None:
    """Make the superblock from the options set so far."""
    _fsconfig(fsfd, _FSCONFIG_CMD_CREATE, None, None)


def fsmount(fsfd: int, attributes: int = 0) -> int:
    """Return the descriptor of a detached mount of the context's superblock.

    Args:
        fsfd: Context after `fsconfig_create`, borrowed.
        attributes: ``MOUNT_ATTR_`` bits.
    """
    return syscall(_NR_FSMOUNT, fsfd, _FSMOUNT_CLOEXEC, attributes)


def open_tree(dirfd: int, path: str | bytes, flags: int) -> int:
    """Return a descriptor of a mount or, with `OPEN_TREE_CLONE`, of a detached copy of it."""
    return syscall(_NR_OPEN_TREE, dirfd, os.fsencode(path) + b"\0", flags | OPEN_TREE_CLOEXEC, path=path)


def move_mount(mount_fd: int, path: str | bytes, dirfd: int = AT_FDCWD) -> None:
    """Attach a mount at `path`, which is relative to `dirfd`; an empty path means `dirfd` itself."""
    raw = os.fsencode(path) + b"\0"
    flags = _MOVE_MOUNT_F_EMPTY_PATH | (0 if path else 0x40)  # MOVE_MOUNT_T_EMPTY_PATH
    syscall(_NR_MOVE_MOUNT, mount_fd, b"\0", dirfd, raw, flags, path=path)


def mount_setattr(
    mount_fd: int,
    *,
    set_attributes: int = 0,
    clear_attributes: int = 0,
    userns_fd: int = 0,
    propagation: int = 0,
    recursive: bool = False,
) -> None:
    """Change the attributes of a mount given by its descriptor.

    Args:
        mount_fd: The mount, borrowed.
        set_attributes: ``MOUNT_ATTR_`` bits to set.
        clear_attributes: ``MOUNT_ATTR_`` bits to clear.
        userns_fd: User namespace whose mapping `MOUNT_ATTR_IDMAP` takes over.
        propagation: 0 or one of ``MS_SHARED``, ``MS_PRIVATE`` and so on.
        recursive: Also change all mounts below.
    """
    argument = _MOUNT_ATTR.pack(set_attributes, clear_attributes, propagation, userns_fd)
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    syscall(_NR_MOUNT_SETATTR, mount_fd, b"\0", flags, argument, len(argument))


def umount(path: str | bytes, flags: int = 0) -> None:
    """Detach the mount at `path`; flags are `MNT_DETACH` and `UMOUNT_NOFOLLOW`."""
    check(libc().umount2(os.fsencode(path), flags), path)


_LOOP_SET_FD = 0x4C00
_LOOP_CLR_FD = 0x4C01
_LOOP_SET_STATUS64 = 0x4C04
_LOOP_CONFIGURE = 0x4C0A
_LOOP_CTL_GET_FREE = 0x4C82

_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16

_LOOP_INFO64 = struct.Struct("=52xI176x")
"""struct loop_info64 (linux/loop.h), 232 bytes; all zero but the flags."""

_LOOP_CONFIG_HEAD = struct.Struct("=II")
"""struct loop_config: descriptor, block size; a loop_info64 and 64 zero bytes follow."""

_MAX_LOOP_ATTEMPTS = 64
"""Free devices asked for; each EBUSY means that another program took the one we were told of."""


def attach_loop(fd: int, block_size: int = 4096) -> tuple[int, str]:
    """Attach a file to a free loop device, read-only; the device lets go when its last user is gone.

    Args:
        fd: The file, borrowed.
        block_size: Logical block size in bytes.

    Returns:
        A descriptor of the device, owned by the caller, and the device's path.

    Raises:
        OSError: No loop devices here, or no permission.
    """
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_MAX_LOOP_ATTEMPTS):
            path = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(path, os.O_RDWR | os.O_CLOEXEC)
            try:
                _configure_loop(device, fd, block_size)
            except OSError as error:
                os.close(device)
                if error.errno != errno.EBUSY:
                    raise OSError(error.errno, error.strerror, path) from error
            else:
                return device, path
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, "every free loop device was taken by another process", "/dev/loop-control")


def _configure_loop(device: int, fd: int, block_size: int) -> None:
    flags = _LO_FLAGS_READ_ONLY | _LO_FLAGS_AUTOCLEAR
    head = _LOOP_CONFIG_HEAD.pack(fd, block_size)
    try:
        fcntl.ioctl(
            device, _LOOP_CONFIGURE, head + _LOOP_INFO64.pack(flags | _LO_FLAGS_DIRECT_IO) + bytes(64)
        )
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTTY}:
            raise
        # Before Linux 5.8 it takes two calls, in which the device is briefly attached without autoclear.
        fcntl.ioctl(device, _LOOP_SET_FD, fd)
        try:
            fcntl.ioctl(device, _LOOP_SET_STATUS64, _LOOP_INFO64.pack(flags))
        except OSError:
            fcntl.ioctl(device, _LOOP_CLR_FD, 0)
            raise
