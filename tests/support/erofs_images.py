"""Stored images, damage to them, and images that no writer makes."""

from __future__ import annotations

import lzma
import stat
import struct
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPOSEFS_HEADER,
    COMPOSEFS_MAGIC,
    DIRENT,
    EROFS_MAGIC,
    EXTENDED_INODE,
    HEADER_VERSION,
    INODE_AREA_OFFSET,
    LG_BLOCK_SIZE,
    SLOT_SIZE,
    SUPERBLOCK,
    SUPERBLOCK_OFFSET,
    XATTR_BODY_HEADER,
    XATTR_ENTRY,
    XATTR_PREFIXES,
    DataLayout,
    DirentType,
    FormatVersion,
)
from cfsctl.erofs.read.directories import read_listing
from cfsctl.erofs.read.image import KIND_OF_TYPE, Image

if TYPE_CHECKING:
    from collections.abc import Sequence

IMAGES = Path(__file__).parents[1] / "vectors" / "erofs" / "images"


@lru_cache(maxsize=32)
def stored(name: str) -> bytes:
    """Return a stored image or dump by its name without ``.xz``."""
    return lzma.decompress((IMAGES / f"{name}.xz").read_bytes())


def algorithm_of(name: str) -> Algorithm:
    """Return the hash that a stored image was made for."""
    return Algorithm.SHA512 if "sha512" in name else Algorithm.SHA256


def locate(data: bytes, path: str) -> int:
    """Return the byte offset of the inode at a path."""
    image = Image(data)
    inode = parent = image.root()
    for name in path.encode().split(b"/"):
        if name:
            listing = read_listing(image, inode, parent.nid)
            nid = listing.nids[listing.names.index(name)]
            parent, inode = inode, image.inode(nid)
    return inode.nid * SLOT_SIZE


def patched(data: bytes, offset: int, layout: str, value: int) -> bytes:
    """Return the image with one field replaced."""
    changed = bytearray(data)
    struct.pack_into(layout, changed, offset, value)
    assert changed != data, "the patch changes nothing"
    return bytes(changed)


def xattr(name: bytes, value: bytes) -> bytes:
    """Return one stored attribute."""
    prefix = max((p for p in XATTR_PREFIXES if name.startswith(p)), key=len)
    suffix = name[len(prefix) :]
    entry = XATTR_ENTRY.pack(len(suffix), XATTR_PREFIXES.index(prefix), len(value)) + suffix + value
    return entry + bytes(-len(entry) % 4)


def body(*entries: bytes, references: tuple[int, ...] = ()) -> bytes:
    """Return an attribute body."""
    shared = struct.pack(f"<{len(references)}I", *references)
    return XATTR_BODY_HEADER.pack(0xFFFFFFFF, len(references)) + shared + b"".join(entries)


def chunk(entries: Sequence[tuple[bytes, int, int]]) -> bytes:
    """Return one directory chunk of (name, nid, type), in the order given."""
    position = DIRENT.size * len(entries)
    array = b""
    for name, nid, kind in entries:
        array += DIRENT.pack(nid, position & 0xFFFF, kind)
        position += len(name)
    return array + b"".join(name for name, _, _ in entries)


class Craft:
    """Puts an image together inode by inode, without asking whether it makes sense.

    Inodes are extended. Numbers are handed out beforehand, so that directories can name any inode.
    """

    def __init__(self, version: FormatVersion = FormatVersion.V2) -> None:
        self.version = version
        self.records: dict[int, bytes] = {}
        self.blocks: list[bytes] = []
        self.shared = b""
        self.next_nid = INODE_AREA_OFFSET // SLOT_SIZE
        self.inode_count: int | None = None

    def reserve(self, size: int) -> int:
        """Return the number of an inode of so many bytes, attributes and tail included."""
        nid = self.next_nid
        self.next_nid += -(-size // SLOT_SIZE)
        return nid

    def put(
        self,
        mode: int,
        tail: bytes = b"",
        *,
        nid: int | None = None,
        layout: int = DataLayout.INLINE,
        size: int | None = None,
        u: int = 0,
        nlink: int = 1,
        attributes: bytes = b"",
        i_format: int | None = None,
    ) -> int:
        """Store an inode and return its number."""
        icount = (len(attributes) - XATTR_BODY_HEADER.size) // 4 + 1 if attributes else 0
        size = len(tail) if size is None else size
        i_format = layout | 1 if i_format is None else i_format
        record = EXTENDED_INODE.pack(i_format, icount, mode, size, u, 0, 0, 0, 0, 0, nlink)
        record += attributes + tail
        nid = self.reserve(len(record)) if nid is None else nid
        self.records[nid] = record
        return nid

    def directory(
        self, nid: int, parent: int, children: Sequence[tuple[bytes, int, int]], *, nlink: int | None = None
    ) -> None:
        """Store a directory at a reserved number; its listing must fit the inode's tail."""
        entries = [(b".", nid, DirentType.DIRECTORY), (b"..", parent, DirentType.DIRECTORY), *children]
        subdirectories = sum(kind == DirentType.DIRECTORY for _, _, kind in children)
        self.put(
            stat.S_IFDIR | 0o755,
            chunk(sorted(entries, key=lambda entry: entry[0])),
            nid=nid,
            nlink=2 + subdirectories if nlink is None else nlink,
        )

    def block(self, data: bytes) -> int:
        """Store a data block and return its index among the data blocks."""
        self.blocks.append(data.ljust(BLOCK_SIZE, b"\0"))
        return len(self.blocks) - 1

    def first_block(self) -> int:
        """Return the address of the first data block, as soon as all inodes are reserved."""
        return -(-(self.next_nid * SLOT_SIZE + len(self.shared)) // BLOCK_SIZE)

    def build(self, root_nid: int) -> bytes:
        """Return the image."""
        data = bytearray(self.first_block() * BLOCK_SIZE)
        for nid, record in self.records.items():
            data[nid * SLOT_SIZE : nid * SLOT_SIZE + len(record)] = record
        table = self.next_nid * SLOT_SIZE
        data[table : table + len(self.shared)] = self.shared
        data += b"".join(self.blocks)
        COMPOSEFS_HEADER.pack_into(data, 0, COMPOSEFS_MAGIC, HEADER_VERSION, 0, self.version)
        count = len(self.records) if self.inode_count is None else self.inode_count
        blocks = len(data) // BLOCK_SIZE
        SUPERBLOCK.pack_into(
            data, SUPERBLOCK_OFFSET, EROFS_MAGIC, 0, 6, LG_BLOCK_SIZE, 0, root_nid, count, 0, 0, blocks, 0, 0,
            bytes(16), bytes(16), 0, 0, 0, 0, 0, 0, 0, 0, 0,
        )  # fmt: skip
        return bytes(data)


def kind_of(mode: int) -> int:
    """Return the type of a directory entry for a mode."""
    return KIND_OF_TYPE[mode >> 12]
