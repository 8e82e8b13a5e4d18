"""The two headers of an image, validated before anything else is read.

    0     composefs header, 32 bytes
    1024  EROFS superblock, 128 bytes
    1152  inodes

Formats: `fs/erofs/erofs_fs.h` of the kernel for the superblock, composefs for the header and for
what a superblock may say.
"""

from __future__ import annotations

from operator import attrgetter
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPOSEFS_HEADER,
    COMPOSEFS_MAGIC,
    EROFS_MAGIC,
    HEADER_FLAG_HAS_ACL,
    HEADER_VERSION,
    INODE_AREA_OFFSET,
    LG_BLOCK_SIZE,
    MAX_IMAGE_SIZE,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    ErofsError,
    FormatVersion,
)

if TYPE_CHECKING:
    from cfsctl.erofs.format import ImageBuffer

_KNOWN_COMPAT = 0x7
_KNOWN_INCOMPAT = 0x4
"""CHUNKED_FILE: the writers use chunks without saying so; an image that does say so is accepted."""


class Superblock(NamedTuple):
    """What the headers say about the rest of the image.

    Attributes:
        version: Format of the image.
        has_acl: The header says that some inode carries a POSIX ACL.
        root_nid: Inode of the root directory.
        inode_count: Number of inodes, stubs included.
        build_time_s: Modification time of compact inodes, seconds since 1970, may be negative.
        build_time_ns: Its nanoseconds.
        xattr_offset: Byte offset that shared attributes are counted from.
    """

    version: FormatVersion
    has_acl: bool
    root_nid: int
    inode_count: int
    build_time_s: int
    build_time_ns: int
    xattr_offset: int


class _Fields(NamedTuple):
    """The superblock as stored; names of the kernel."""

    magic: int
    checksum: int
    feature_compat: int
    blkszbits: int
    extslots: int
    root_nid: int
    inos: int
    build_time: int
    build_time_nsec: int
    blocks: int
    meta_blkaddr: int
    xattr_blkaddr: int
    uuid: bytes
    volume_name: bytes
    feature_incompat: int
    available_compr_algs: int
    extra_devices: int
    devt_slotoff: int
    dirblkbits: int
    xattr_prefix_count: int
    xattr_prefix_start: int
    packed_nid: int
    xattr_filter_reserved: int


def read_superblock(start: ImageBuffer, size: int | None = None) -> Superblock:
    """Decode both headers and check everything that needs no inode.

    Args:
        start: The image, or at least its first 1152 bytes.
        size: Size of the whole image in bytes, where `start` is only its beginning.

    Raises:
        ErofsError: Not a composefs image, one with features that composefs does not use, or one that
            is shorter or longer than it says.
    """
    size = len(start) if size is None else size
    if size > MAX_IMAGE_SIZE:
        raise ErofsError(f"Invalid image: image size {size} exceeds maximum {MAX_IMAGE_SIZE}")
    version, flags, fields = _read_headers(start)
    _check_extent(fields, size)
    return Superblock(
        version,
        bool(flags & HEADER_FLAG_HAS_ACL),
        fields.root_nid,
        fields.inos,
        fields.build_time,
        fields.build_time_nsec,
        fields.xattr_blkaddr * BLOCK_SIZE,
    )


def promised_size(start: ImageBuffer) -> int:
    """Return how long an image says it is, in bytes.

    Args:
        start: The image, or at least its first 1152 bytes.

    Raises:
        ErofsError: As `read_superblock`, or the image says that it is too large.
    """
    _, _, fields = _read_headers(start)
    size = fields.blocks * BLOCK_SIZE
    if size > MAX_IMAGE_SIZE:
        raise _refusal(36, "blocks", f"image size {size} exceeds maximum {MAX_IMAGE_SIZE}")
    return size


def _read_headers(start: ImageBuffer) -> tuple[FormatVersion, int, _Fields]:
    """Decode both headers and check what does not depend on the size of the image."""
    version, flags = _read_header(start)
    if len(start) < INODE_AREA_OFFSET:
        raise ErofsError(
            f"Invalid image: expected {INODE_AREA_OFFSET} bytes of headers, found {len(start)}",
            offset=SUPERBLOCK_OFFSET,
            field="superblock",
        )
    fields = _Fields(*SUPERBLOCK.unpack_from(start, SUPERBLOCK_OFFSET))
    _check_magic(fields)
    _check_features(fields)
    return version, flags, fields


_MAKE_HINT: Final = "images are made by `cfsctl create-image` and mkcomposefs"


def _read_header(start: ImageBuffer) -> tuple[FormatVersion, int]:
    if len(start) < COMPOSEFS_HEADER.size:
        raise ErofsError(
            "Invalid image: cannot parse header:"
            f" expected at least {COMPOSEFS_HEADER.size} bytes, found {len(start)}",
            offset=0,
            field="header",
            hint=_MAKE_HINT,
        )
    magic, header_version, flags, composefs_version = COMPOSEFS_HEADER.unpack_from(start, 0)
    if magic != COMPOSEFS_MAGIC:
        raise ErofsError(
            f"Invalid image: bad composefs magic: expected {COMPOSEFS_MAGIC:#x}, got {magic:#x}",
            offset=0,
            field="magic",
            hint=_MAKE_HINT,
        )
    if header_version != HEADER_VERSION:
        raise ErofsError(
            "Invalid image: bad EROFS format version in composefs header: "
            f"expected {HEADER_VERSION}, got {header_version}",
            offset=4,
            field="version",
        )
    if flags & ~HEADER_FLAG_HAS_ACL:
        raise ErofsError(f"Invalid image: unknown header flags {flags:#x}", offset=8, field="flags")
    try:
        return FormatVersion(composefs_version), flags
    except ValueError:
        raise ErofsError(
            f"Invalid image: unknown composefs_version {composefs_version} (expected 0, 1, or 2)",
            offset=12,
            field="composefs_version",
        ) from None


def _check_magic(fields: _Fields) -> None:
    if fields.magic != EROFS_MAGIC:
        raise _refusal(0, "magic", f"bad EROFS magic: expected {EROFS_MAGIC:#x}, got {fields.magic:#x}")
    if fields.blkszbits != LG_BLOCK_SIZE:
        raise _refusal(
            12, "blkszbits", f"composefs requires blkszbits={LG_BLOCK_SIZE}, got {fields.blkszbits}"
        )


def _check_features(fields: _Fields) -> None:
    """Refuse every feature of EROFS that the writers of composefs images never use."""
    compat = fields.feature_compat & ~_KNOWN_COMPAT
    if compat:
        raise _refusal(8, "feature_compat", f"unsupported feature_compat flags: {compat:#x}")
    incompat = fields.feature_incompat & ~_KNOWN_INCOMPAT
    if incompat:
        raise _refusal(80, "feature_incompat", f"unsupported feature_incompat flags: {incompat:#x}")
    if not any(_FORBIDDEN_OF(fields)):
        return
    for offset, field, text in _FORBIDDEN:
        value = getattr(fields, field)
        if value:
            raise _refusal(offset, field, text.format(value))


_FORBIDDEN = (
    (84, "available_compr_algs", "composefs does not support compression"),
    (86, "extra_devices", "composefs does not support multi-device (extra_devices={})"),
    (13, "extslots", "composefs does not support extslots (extslots={})"),
    (96, "packed_nid", "composefs does not support packed inodes (packed_nid={})"),
    (40, "meta_blkaddr", "composefs requires meta_blkaddr=0, got {}"),
    (91, "xattr_prefix_count", "composefs does not support custom xattr prefixes (count={})"),
    (90, "dirblkbits", "composefs requires dirblkbits=0, got {}"),
)
_FORBIDDEN_OF = attrgetter(*(field for _, field, _ in _FORBIDDEN))


def _check_extent(fields: _Fields, size: int) -> None:
    if fields.blocks * BLOCK_SIZE != size:
        raise _refusal(
            36,
            "blocks",
            f"superblock says {fields.blocks} blocks ({fields.blocks * BLOCK_SIZE} bytes), "
            f"found {size} bytes",
        )
    if fields.xattr_blkaddr > fields.blocks:
        raise _refusal(
            44,
            "xattr_blkaddr",
            f"Offset out of bounds: shared attributes at block {fields.xattr_blkaddr} of {fields.blocks}",
        )
    if fields.build_time_nsec >= 1_000_000_000:
        raise _refusal(
            32, "build_time_nsec", f"expected less than 1000000000 nanoseconds, got {fields.build_time_nsec}"
        )


def _refusal(offset: int, field: str, text: str) -> ErofsError:
    return ErofsError(f"Invalid image: {text}", offset=SUPERBLOCK_OFFSET + offset, field=field)
