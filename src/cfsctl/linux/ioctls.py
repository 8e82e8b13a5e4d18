"""ioctls on files: fs-verity and reflinks. Formats: linux/fsverity.h, linux/fs.h."""

from __future__ import annotations

import errno
import fcntl
import os
import struct

_WIDE_DIRECTION_MACHINES = ("alpha", "mips", "ppc", "sparc")
"""Architectures whose ioctl numbers have 13 bits of size and 3 of direction (asm/ioctl.h)."""


def _number(kind: str, nr: int, size: int, *, write: bool, read: bool) -> int:
    """Return the number of an ioctl: direction as the program sees it, argument size in bytes."""
    wide = os.uname().machine.startswith(_WIDE_DIRECTION_MACHINES)
    direction = (4 if write else 0) | (2 if read else 0) if wide else (1 if write else 0) | (2 if read else 0)
    return direction << (29 if wide else 30) | size << 16 | ord(kind) << 8 | nr


FS_IOC_ENABLE_VERITY = _number("f", 133, 128, write=True, read=False)
FS_IOC_MEASURE_VERITY = _number("f", 134, 4, write=True, read=True)
FICLONE = _number("\x94", 9, 4, write=True, read=False)

_NO_CLONE = frozenset(
    {
        errno.EOPNOTSUPP,
        errno.ENOTTY,
        errno.EINVAL,
        errno.EXDEV,
        errno.ENOSYS,
        errno.EPERM,
        errno.ETXTBSY,
    }
)
"""What the kernel answers where files cannot share blocks."""

VERITY_BLOCK_SIZE = 4096
"""Merkle tree block size in bytes; the only one in use here."""

_ENABLE_ARGUMENT = struct.Struct("=IIIIQII Q 88x")
"""struct fsverity_enable_arg: version, hash, block size, salt size, salt, signature size, 0, signature."""

_DIGEST_HEADER = struct.Struct("=HH")
"""struct fsverity_digest: algorithm, size of the digest in bytes; the digest follows."""

_MAX_DIGEST_SIZE = 64
"""Largest digest of any fs-verity algorithm (FS_VERITY_MAX_DIGEST_SIZE), bytes."""


def enable_verity(fd: int, hash_algorithm: int) -> None:
    """Make the file read-only forever and have the kernel check its content on every read.

    Args:
        fd: Read-only descriptor; no process may have the file open for writing.
        hash_algorithm: The kernel's number, 1 for SHA-256, 2 for SHA-512.

    Raises:
        OSError: ENOTTY or EOPNOTSUPP where the file system cannot, EEXIST if it is on already,
            ETXTBSY while the file is open for writing, EBUSY while another process enables fs-verity on it.
    """
    fcntl.ioctl(
        fd, FS_IOC_ENABLE_VERITY, _ENABLE_ARGUMENT.pack(1, hash_algorithm, VERITY_BLOCK_SIZE, 0, 0, 0, 0, 0)
    )


def measure_verity(fd: int) -> tuple[int, bytes]:
    """Return the kernel's number of the hash algorithm and the file's fs-verity digest.

    Raises:
        OSError: ENODATA if fs-verity is off, ENOTTY or EOPNOTSUPP where the file system cannot.
    """
    argument = bytearray(_DIGEST_HEADER.size + _MAX_DIGEST_SIZE)
    _DIGEST_HEADER.pack_into(argument, 0, 0, _MAX_DIGEST_SIZE)
    fcntl.ioctl(fd, FS_IOC_MEASURE_VERITY, argument)
    algorithm, size = _DIGEST_HEADER.unpack_from(argument)
    return algorithm, bytes(argument[_DIGEST_HEADER.size : _DIGEST_HEADER.size + size])


def try_clone(dst_fd: int, src_fd: int) -> bool:
    """Make `dst_fd` share all data blocks with `src_fd` (a reflink); return whether that was possible.

    Raises:
        OSError: It might have been possible: ENOSPC and EIO, among others.
    """
    try:
        fcntl.ioctl(dst_fd, FICLONE, src_fd)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise
        return False
    return True
