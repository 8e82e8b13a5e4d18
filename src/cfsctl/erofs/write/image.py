"""Build the bytes of an image from a tree."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPOSEFS_HEADER,
    COMPOSEFS_MAGIC,
    EROFS_MAGIC,
    FEATURE_COMPAT_MTIME,
    FEATURE_COMPAT_XATTR_FILTER,
    HEADER_FLAG_HAS_ACL,
    HEADER_VERSION,
    LG_BLOCK_SIZE,
    MAX_IMAGE_SIZE,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.node_errors import NodeFault, explain
from cfsctl.erofs.write.inode_writer import InodeWriter
from cfsctl.erofs.write.inodes import build_inode_table
from cfsctl.erofs.write.layout import lay_out
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.gc_pause import python_gc_paused

if TYPE_CHECKING:
    from cfsctl.erofs.write.inodes import InodeTable
    from cfsctl.erofs.write.layout import Layout
    from cfsctl.tree.model import FileSystem

_MAX_BLOCKS: Final = 1 << 32


def build_image(filesystem: FileSystem, version: FormatVersion, dialect: Dialect = Dialect.RUST) -> bytearray:
    """Return the image of a tree; the same tree always gives the same bytes.

    Format: EROFS as composefs writes it, V0, V1 or V2.

    Args:
        filesystem: The tree; it is not changed. Digests in it are of one hash, which the image is for.
        version: Format of the image.
        dialect: Which original is followed where they differ; V2 has only one.

    Raises:
        ErofsError: Something that no image of this format can hold; the message names the path.
    """
    if version is FormatVersion.V2:
        dialect = Dialect.RUST
    with python_gc_paused():
        try:
            return _build(filesystem, version, dialect)
        except NodeFault as fault:
            raise explain(fault, filesystem) from fault


def _build(filesystem: FileSystem, version: FormatVersion, dialect: Dialect) -> bytearray:
    inodes = build_inode_table(filesystem, version, dialect)
    layout = lay_out(inodes, version, dialect)
    _check_size(layout, dialect)
    image = bytearray(layout.blocks * BLOCK_SIZE)
    is_v2 = version is FormatVersion.V2
    inodes.attributes.encode(layout.inodes_end if is_v2 else layout.inodes_end % BLOCK_SIZE)
    table = inodes.attributes.table
    image[layout.inodes_end : layout.inodes_end + len(table)] = table
    try:
        _write_headers(image, inodes, layout, version)
        InodeWriter(image, inodes, layout, is_v2=is_v2).write()
    except struct.error as error:
        raise _find_misfit(inodes) from error
    return image


def _check_size(layout: Layout, dialect: Dialect) -> None:
    size = layout.blocks * BLOCK_SIZE
    if layout.blocks >= _MAX_BLOCKS or (dialect is Dialect.RUST and size > MAX_IMAGE_SIZE):
        raise ErofsError(f"the image would have {size} bytes, more than can be read again", field="blocks")


def _write_headers(image: bytearray, inodes: InodeTable, layout: Layout, version: FormatVersion) -> None:
    is_v2 = version is FormatVersion.V2
    flags = HEADER_FLAG_HAS_ACL if inodes.attributes.has_acl and not is_v2 else 0
    COMPOSEFS_HEADER.pack_into(image, 0, COMPOSEFS_MAGIC, HEADER_VERSION, flags, version)
    seconds, nanoseconds = (0, 0) if is_v2 else inodes.min_mtime
    SUPERBLOCK.pack_into(
        image,
        SUPERBLOCK_OFFSET,
        EROFS_MAGIC,
        0,  # checksum
        FEATURE_COMPAT_MTIME | FEATURE_COMPAT_XATTR_FILTER,
        LG_BLOCK_SIZE,
        0,  # extslots
        layout.nids[0],
        len(layout.nids),
        seconds,
        nanoseconds,
        layout.blocks,
        0,  # meta_blkaddr
        0 if is_v2 else layout.inodes_end // BLOCK_SIZE,
        bytes(16),  # uuid
        bytes(16),  # volume_name
        *bytes(9),  # nothing of what the other fields are about
    )


def _find_misfit(inodes: InodeTable) -> NodeFault:
    """Return what is wrong with the first node that has a number out of range."""
    limits = {"mode": 1 << 12, "uid": 1 << 32, "gid": 1 << 32, "rdev": 1 << 32, "mtime_ns": 1 << 32}
    limits["size"] = 1 << 64
    for index, node in enumerate(inodes.order.nodes):
        for name, limit in limits.items():
            value = getattr(node, name, 0)
            if not 0 <= value < limit:
                return NodeFault(node, f"{name} {value} is out of range", f"i_{name}")
        if not -(1 << 63) <= node.mtime_s < 1 << 63:
            return NodeFault(node, f"modification time {node.mtime_s} is out of range", "i_mtime")
        if not 0 <= inodes.order.links.get(index, 1) < 1 << 32:
            return NodeFault(node, f"{inodes.order.links[index]} links are out of range", "i_nlink")
    raise AssertionError("every number is in its range")
