"""The FUSE protocol as far as a server of read-only trees speaks it: structures, numbers and flags.

A request is a header, a structure that depends on the operation, and for some operations a name. A reply is
a header and the result. All integers have the byte order of the machine. Names are those of ``linux/fuse.h``.
"""

from __future__ import annotations

import errno
import struct
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

from cfsctl.errors import FormatError

MAJOR: Final = 7
MINOR: Final = 41
"""The version that is answered with. The kernel uses what both know."""

MIN_MINOR: Final = 23
"""Linux 3.15; before it, the replies have other sizes."""

ROOT_ID: Final = 1
"""The number of the root directory."""

MIN_READ_BUFFER: Final = 8192
"""The kernel refuses to hand requests to a smaller buffer (FUSE_MIN_READ_BUFFER)."""


GONE: Final = frozenset({errno.ENOENT, errno.ENODEV})
"""What a reply is answered with if whoever asked has been killed, or all is unmounted."""


class FuseProtocolError(FormatError):
    """A request that is not one of the FUSE protocol."""


class Opcode(IntEnum):
    """Operations that are answered with something else than that they are unknown."""

    LOOKUP = 1
    FORGET = 2
    GETATTR = 3
    READLINK = 5
    OPEN = 14
    READ = 15
    STATFS = 17
    RELEASE = 18
    GETXATTR = 22
    LISTXATTR = 23
    INIT = 26
    OPENDIR = 27
    READDIR = 28
    RELEASEDIR = 29
    DESTROY = 38
    IOCTL = 39
    BATCH_FORGET = 42
    READDIRPLUS = 44
    LSEEK = 46


class InitFlag(IntFlag):
    """Abilities that kernel and server agree on."""

    ASYNC_READ = 1 << 0
    DO_READDIRPLUS = 1 << 13
    ASYNC_DIO = 1 << 15
    NO_OPEN_SUPPORT = 1 << 17
    PARALLEL_DIROPS = 1 << 18
    POSIX_ACL = 1 << 20
    MAX_PAGES = 1 << 22
    CACHE_SYMLINKS = 1 << 23
    NO_OPENDIR_SUPPORT = 1 << 24
    INIT_EXT = 1 << 30


FOPEN_KEEP_CACHE: Final = 1 << 1
FOPEN_CACHE_DIR: Final = 1 << 3

IN_HEADER: Final = struct.Struct("=IIQQIII4x")
"""struct fuse_in_header: len, opcode, unique, nodeid, uid, gid, pid."""

OUT_HEADER: Final = struct.Struct("=IiQ")
"""struct fuse_out_header: len, error, unique."""

INIT_IN: Final = struct.Struct("=IIII")
"""struct fuse_init_in before 7.36: major, minor, max_readahead, flags."""

INIT_OUT: Final = struct.Struct("=IIIIHHIIHHII24x")
"""struct fuse_init_out: major, minor, max_readahead, flags, max_background, congestion_threshold,
max_write, time_gran, max_pages, map_alignment, flags2, max_stack_depth."""

ATTR: Final = struct.Struct("=QQQqqqIIIIIIIIII")
"""struct fuse_attr: ino, size, blocks, atime, mtime, ctime, atimensec, mtimensec, ctimensec, mode, nlink,
uid, gid, rdev, blksize, flags. The kernel takes the times for signed ones."""

ENTRY_HEAD: Final = struct.Struct("=QQQQII")
"""struct fuse_entry_out without attributes: nodeid, generation, entry_valid, attr_valid, and their
nanoseconds."""

ATTR_HEAD: Final = struct.Struct("=QII")
"""struct fuse_attr_out without attributes: attr_valid, its nanoseconds, padding."""

DIRENT: Final = struct.Struct("=QQII")
"""struct fuse_dirent: ino, off, namelen, type; the name follows, padded to a multiple of 8."""

OPEN_OUT: Final = struct.Struct("=QII")
"""struct fuse_open_out: fh, open_flags, backing_id."""

READ_IN: Final = struct.Struct("=QQI20x")
"""struct fuse_read_in: fh, offset, size."""

GETXATTR_IN: Final = struct.Struct("=I4x")
"""struct fuse_getxattr_in: size of the caller's buffer, 0 to ask for the length."""

GETXATTR_OUT: Final = struct.Struct("=I4x")
"""struct fuse_getxattr_out: the length."""

STATFS_OUT: Final = struct.Struct("=QQQQQIII4x24x")
"""struct fuse_statfs_out: blocks, bfree, bavail, files, ffree, bsize, namelen, frsize."""

LSEEK_IN: Final = struct.Struct("=QQI4x")
"""struct fuse_lseek_in: fh, offset, whence."""

LSEEK_OUT: Final = struct.Struct("=Q")
"""struct fuse_lseek_out: offset."""


class Init(NamedTuple):
    """The introduction of the kernel.

    Attributes:
        major: Version of the protocol, which changes never.
        minor: Extensions that the kernel knows.
        max_readahead: Most bytes that it reads ahead.
        flags: What it can do, the lower 32 bits.
    """

    major: int
    minor: int
    max_readahead: int
    flags: int


def parse_init(body: bytes | memoryview) -> Init:
    """Return the kernel's introduction.

    Raises:
        FuseProtocolError: It is too short.
    """
    if len(body) < INIT_IN.size:
        raise FuseProtocolError(
            f"FUSE INIT: expected at least {INIT_IN.size} bytes, found {len(body)}", field="init"
        )
    return Init(*INIT_IN.unpack_from(body))


def format_init(init: Init, flags: int, *, max_pages: int, max_background: int) -> bytes:
    """Return the server's answer to the kernel's introduction.

    Args:
        init: What the kernel said.
        flags: What the server can do; only what both can do is used.
        max_pages: Most pages of one request.
        max_background: Most requests at a time that nobody waits for, such as reading ahead.
    """
    return INIT_OUT.pack(
        MAJOR,
        min(init.minor, MINOR),
        init.max_readahead,
        init.flags & flags & ~InitFlag.INIT_EXT,
        max_background,
        max_background * 3 // 4,
        MIN_READ_BUFFER // 2,  # nothing is ever written
        1,
        max_pages,
        0,
        0,
        0,
    )


def parse_name(body: bytes) -> bytes:
    """Return the name that ends a request.

    Raises:
        FuseProtocolError: It has no end, or there is something behind it.
    """
    if not body or body.find(b"\0") != len(body) - 1:
        raise FuseProtocolError("FUSE name: expected one NUL, at its end", field="name")
    return body[:-1]
