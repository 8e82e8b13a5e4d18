"""The EROFS image format as composefs uses it: structures, values and limits.

Formats V0, V1 and V2 differ in what is written, not in the structures. All integers are little-endian;
a block is 4096 bytes, an inode number counts slots of 32 bytes from the start of the image. Names are
those of the kernel's `fs/erofs/erofs_fs.h`.

    0                     composefs header, 32 bytes
    1024                  EROFS superblock, 128 bytes
    1152                  inodes: header, attribute body, inline tail; each starts a slot
    next slot             shared attributes
    next block            data blocks, in inode order
"""

from __future__ import annotations

import struct
from enum import IntEnum
from mmap import mmap
from typing import Final, TypeAlias

from cfsctl import limits
from cfsctl.errors import FormatError

Buffer: TypeAlias = bytes | mmap
"""What slices to bytes."""

ImageBuffer: TypeAlias = bytes | bytearray | memoryview | mmap
"""What an image may be handed over as."""


class ErofsError(FormatError):
    """Bytes that are not a composefs image, or a tree that no image can hold."""


class FormatVersion(IntEnum):
    """Formats of images; the value is `composefs_version` in the header."""

    V0 = 0
    V1 = 1
    V2 = 2


# Blocks and headers

LG_BLOCK_SIZE: Final = 12
BLOCK_SIZE: Final = 1 << LG_BLOCK_SIZE
SLOT_SIZE: Final = 32
"""Inodes start at multiples of this; their number is the offset divided by it."""

COMPOSEFS_HEADER: Final = struct.Struct("<IIII16x")
"""magic, version, flags, composefs_version."""

COMPOSEFS_MAGIC: Final = 0xD078629A
HEADER_VERSION: Final = 1
HEADER_FLAG_HAS_ACL: Final = 1
"""Some inode carries a POSIX ACL; never set in V2."""

SUPERBLOCK_OFFSET: Final = 1024
SUPERBLOCK: Final = struct.Struct("<IIIBBHQqIIII16s16sIHHHBBIQB23x")
"""magic, checksum, feature_compat, blkszbits, extslots, root_nid, inos, build_time, build_time_nsec,
blocks, meta_blkaddr, xattr_blkaddr, uuid, volume_name, feature_incompat, available_compr_algs,
extra_devices, devt_slotoff, dirblkbits, xattr_prefix_count, xattr_prefix_start, packed_nid,
xattr_filter_reserved."""

EROFS_MAGIC: Final = 0xE0F5E1E2
FEATURE_COMPAT_MTIME: Final = 2
FEATURE_COMPAT_XATTR_FILTER: Final = 4

INODE_AREA_OFFSET: Final = SUPERBLOCK_OFFSET + SUPERBLOCK.size
MAX_IMAGE_SIZE: Final = limits.MAX_IMAGE_BYTES

# Inodes

COMPACT_INODE: Final = struct.Struct("<HHHHI4xIIHH4x")
"""i_format, i_xattr_icount, i_mode, i_nlink, i_size, i_u, i_ino, i_uid, i_gid."""

EXTENDED_INODE: Final = struct.Struct("<HHH2xQIIIIqII16x")
"""i_format, i_xattr_icount, i_mode, i_size, i_u, i_ino, i_uid, i_gid, i_mtime, i_mtime_nsec, i_nlink."""

I_FORMAT_EXTENDED: Final = 1
"""Bit of i_format that tells an extended inode from a compact one."""


class DataLayout(IntEnum):
    """Where the data of an inode is: i_format without its lowest bit."""

    PLAIN = 0
    INLINE = 4
    CHUNK = 8


NULL_CHUNK: Final = b"\xff\xff\xff\xff"
"""Chunk index of data that is not in the image."""

MIN_CHUNK_BITS: Final = 12
MAX_CHUNK_BITS: Final = 43
MAX_SINGLE_CHUNK: Final = 1 << MAX_CHUNK_BITS
"""Largest file, in bytes, that one chunk index stands for in V0 and V1."""

V2_CHUNK_FORMAT: Final = 31
"""i_u of every external file in V2."""

# Directories

DIRENT: Final = struct.Struct("<QHH")
"""nid, offset of the name in the chunk, type; the type's upper byte is reserved and 0."""


class DirentType(IntEnum):
    """Type of a directory entry."""

    REGULAR = 1
    DIRECTORY = 2
    CHARACTER = 3
    BLOCK = 4
    FIFO = 5
    SOCKET = 6
    SYMLINK = 7


# Attributes

XATTR_BODY_HEADER: Final = struct.Struct("<IB7x")
"""Name filter, number of shared references."""

XATTR_ENTRY: Final = struct.Struct("<BBH")
"""Length of the suffix, index of the prefix, length of the value; suffix and value follow."""

XATTR_PREFIXES: Final = (
    b"",
    b"user.",
    b"system.posix_acl_access",
    b"system.posix_acl_default",
    b"trusted.",
    b"lustre.",
    b"security.",
)
"""Prefix of attribute names by index. V0 and V1 have no names with index 5."""

XATTR_FILTER_SEED: Final = 0x25BBE08F
XATTR_OVERLAY_PREFIX: Final = b"trusted.overlay."
XATTR_OVERLAY_ESCAPED_PREFIX: Final = b"trusted.overlay.overlay."
XATTR_METACOPY: Final = b"trusted.overlay.metacopy"
XATTR_REDIRECT: Final = b"trusted.overlay.redirect"
XATTR_ROOT_OPAQUE: Final = (b"trusted.overlay.opaque", b"y")
"""Attribute of root in V0 and V1."""

WHITEOUT_ATTRIBUTES: Final = ((b"trusted.overlay.overlay.whiteout", b""), (b"user.overlay.whiteout", b""))
"""Attributes of a regular file that stands for a whiteout in V0 and V1."""

WHITEOUTS_ATTRIBUTES: Final = ((b"trusted.overlay.overlay.whiteouts", b""), (b"user.overlay.whiteouts", b""))
"""Attributes of a directory with whiteouts in it, in V0 and V1."""

WHITEOUTS_OPAQUE_ATTRIBUTES: Final = (
    (b"trusted.overlay.overlay.opaque", b"x"),
    (b"user.overlay.opaque", b"x"),
)
"""What such a directory has besides in V1."""

METACOPY_HEADER: Final = struct.Struct("<BBBB")
"""version 0, length of all, flags 0, number of the hash; the digest follows."""

# Limits

MAX_NAME_LENGTH: Final = limits.MAX_NAME_BYTES
MAX_SYMLINK_LENGTH: Final = limits.MAX_TARGET_BYTES
MAX_XATTR_VALUE: Final = limits.MAX_XATTR_VALUE_BYTES
MAX_FILE_SIZE: Final = limits.MAX_FILE_BYTES

MAX_DEPTH: Final = limits.MAX_DEPTH + 1
"""Directory levels, root among them."""

STUB_MODE: Final = 0o644
STUB_NAMES: Final = tuple(b"%02x" % number for number in range(256))
"""Whiteouts that V0 and V1 put into root, so that overlayfs finds no object directory below root."""
