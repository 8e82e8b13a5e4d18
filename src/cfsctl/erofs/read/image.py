"""An image as bytes: inodes, their content and directory listings, each checked before it is used.

Nothing is trusted. Every offset is compared with the end of the image before it is followed, and
every inode that is visited pays for the bytes it claims out of the size of the image: an honest image
stores no byte twice, while a crafted one could let a million inodes name the same block. So time and
memory are linear in the size of the image, whatever it says.
"""

from __future__ import annotations

from mmap import mmap
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPACT_INODE,
    EXTENDED_INODE,
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    DataLayout,
    DirentType,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.read.attributes import AttributeTable
from cfsctl.erofs.superblock import read_superblock

if TYPE_CHECKING:
    from cfsctl.erofs.format import Buffer, ImageBuffer
    from cfsctl.erofs.read.attributes import Attribute

KNOWN_I_FORMATS: Final = frozenset(
    layout | extended
    for layout in (DataLayout.PLAIN, DataLayout.INLINE, DataLayout.CHUNK)
    for extended in (0, 1)
)
"""Values of i_format that composefs images have."""

# As plain numbers, which are found and compared faster than members.
_CHUNK: Final = int(DataLayout.CHUNK)
_INLINE: Final = int(DataLayout.INLINE)
_MAX_NS: Final = 999_999_999

KIND_OF_TYPE: Final = bytes(
    {
        0x8: DirentType.REGULAR,
        0x4: DirentType.DIRECTORY,
        0x2: DirentType.CHARACTER,
        0x6: DirentType.BLOCK,
        0x1: DirentType.FIFO,
        0xC: DirentType.SOCKET,
        0xA: DirentType.SYMLINK,
    }.get(bits, 0)
    for bits in range(16)
)
"""Type of a directory entry by the upper four bits of the mode; 0 where those are not a file type."""


class Inode(NamedTuple):
    """One decoded inode header.

    Attributes:
        nid: Its number: its byte offset in units of 32.
        kind: Type of the file, a `DirentType`.
        layout: Where the data is, a `DataLayout`.
        mode: Permission bits, 12 of them.
        nlink: Number of directory entries, as the inode says.
        size: i_size in bytes.
        u: i_u: block address, device number or chunk format.
        uid: Owner.
        gid: Group.
        mtime_s: Seconds since 1970, may be negative.
        mtime_ns: Nanoseconds.
        body_start: Byte offset of the attribute body.
        body_end: Byte offset behind it, where the inline tail begins; `body_start` if none exists.
    """

    nid: int
    kind: int
    layout: int
    mode: int
    nlink: int
    size: int
    u: int
    uid: int
    gid: int
    mtime_s: int
    mtime_ns: int
    body_start: int
    body_end: int


class Image:
    """One image of at most 1 GiB.

    Attributes:
        data: All of it.
        superblock: Its headers.
        attributes: Decoder of attribute bodies.
        max_nid: Largest number whose compact inode is inside the image.
        seen: One byte per possible inode, not 0 when it was visited; for the walkers.
        unclaimed: Bytes of the image that no visited inode has claimed.
    """

    __slots__ = ("attributes", "data", "max_nid", "seen", "superblock", "unclaimed")

    def __init__(self, data: ImageBuffer) -> None:
        """Take the bytes and check the headers.

        Raises:
            ErofsError: The headers are not those of a composefs image.
        """
        self.data = as_buffer(data)
        self.superblock = read_superblock(self.data)
        self.attributes = AttributeTable(self.data, self.superblock.xattr_offset)
        self.max_nid = (len(self.data) - COMPACT_INODE.size) // SLOT_SIZE
        self.seen = bytearray(self.max_nid + 1)
        self.unclaimed = len(self.data)

    @property
    def is_epoch1(self) -> bool:
        """The image has the layout of V0 and V1: stubs in root, escaped whiteouts."""
        return self.superblock.version is not FormatVersion.V2

    def claim(self, size: int) -> None:
        """Charge one visited inode for the bytes it takes.

        Raises:
            ErofsError: All visited inodes together claim more than the image has.
        """
        self.unclaimed -= size
        if self.unclaimed < 0:
            raise ErofsError(f"inodes claim more bytes than the {len(self.data)} of the image")

    def root(self) -> Inode:
        """Return the root directory, counted as visited.

        Raises:
            ErofsError: It cannot be decoded or is not a directory.
        """
        nid = self.superblock.root_nid
        inode = self.inode(nid)
        if inode.kind != DirentType.DIRECTORY:
            raise ErofsError(f"root inode {nid} is not a directory", offset=nid * SLOT_SIZE, field="root_nid")
        self.seen[nid] = 1
        return inode

    def inode(self, nid: int) -> Inode:
        """Decode an inode header and charge it for itself and its attributes.

        Raises:
            ErofsError: It reaches out of the image, or has a type or layout that composefs does not use.
        """
        if nid > self.max_nid:
            raise ErofsError(f"Invalid inode: {nid} (the image ends at {self.max_nid})", field="nid")
        offset = nid * SLOT_SIZE
        data = self.data
        if data[offset] & 1:
            body_start = offset + EXTENDED_INODE.size
            if body_start > len(data):
                raise ErofsError(f"Invalid inode: {nid} (cut off)", offset=offset, field="nid")
            i_format, icount, mode, size, u, _, uid, gid, mtime_s, mtime_ns, nlink = (
                EXTENDED_INODE.unpack_from(data, offset)
            )
        else:
            body_start = offset + COMPACT_INODE.size
            i_format, icount, mode, nlink, size, u, _, uid, gid = COMPACT_INODE.unpack_from(data, offset)
            mtime_s, mtime_ns = self.superblock.build_time_s, self.superblock.build_time_ns
        body_end = body_start
        if icount:
            body_end += XATTR_BODY_HEADER.size + (icount - 1) * 4
        kind = KIND_OF_TYPE[mode >> 12]
        if i_format not in KNOWN_I_FORMATS or not kind or mtime_ns > _MAX_NS:
            raise _refused_inode(nid, i_format, mode, mtime_ns)
        if body_end > len(data):
            raise ErofsError(
                f"Offset out of bounds: attributes of inode {nid}", offset=offset, field="i_xattr_icount"
            )
        self.unclaimed -= body_end - offset
        if self.unclaimed < 0:
            self.claim(0)
        fields = (
            nid, kind, i_format & ~1, mode & 0o7777, nlink, size, u, uid, gid, mtime_s, mtime_ns,
            body_start, body_end,
        )  # fmt: skip
        return tuple.__new__(Inode, fields)  # half the time of calling the class

    def attribute_list(self, inode: Inode) -> list[Attribute]:
        """Return the attributes of an inode in stored order.

        Raises:
            ErofsError: They do not fit the body or the image.
        """
        if inode.body_start == inode.body_end:
            return []
        return self.attributes.decode(self.data[inode.body_start : inode.body_end])

    def content(self, inode: Inode) -> bytes:
        """Return the data of an inode that is stored in the image.

        Raises:
            ErofsError: Chunk-based, or blocks or tail are outside the image.
        """
        pieces = self.pieces(inode)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    def pieces(self, inode: Inode) -> list[bytes]:
        """Return the data of an inode by blocks, the last one shorter.

        Raises:
            ErofsError: Chunk-based, or blocks or tail are outside the image.
        """
        size = inode.size
        self.unclaimed -= size
        if inode.layout == _INLINE and size < BLOCK_SIZE and self.unclaimed >= 0:
            return [self._tail(inode, size)] if size else []
        if inode.layout == _CHUNK:
            raise ErofsError(
                f"inode {inode.nid} is chunk based, expected its data in the image", field="i_format"
            )
        if size > len(self.data):
            raise ErofsError(f"inode size {size} exceeds image size {len(self.data)}", field="i_size")
        self.claim(0)
        tail = size % BLOCK_SIZE if inode.layout == _INLINE else 0
        pieces = self._blocks(inode, size - tail)
        if tail:
            pieces.append(self._tail(inode, tail))
        return pieces

    def _tail(self, inode: Inode, size: int) -> bytes:
        """Return what an inode has behind its attributes."""
        end = inode.body_end + size
        if end > len(self.data):
            raise ErofsError(f"Offset out of bounds: inline data of inode {inode.nid}", field="i_size")
        return self.data[inode.body_end : end]

    def _blocks(self, inode: Inode, size: int) -> list[bytes]:
        """Return what an inode has in data blocks."""
        if not size:
            return []
        start = inode.u * BLOCK_SIZE
        end = start + size
        if end > len(self.data):
            raise ErofsError(
                f"inode block range {inode.u}..{-(-end // BLOCK_SIZE)} exceeds image "
                f"({len(self.data) // BLOCK_SIZE} blocks)",
                field="i_u",
            )
        return [self.data[offset : min(offset + BLOCK_SIZE, end)] for offset in range(start, end, BLOCK_SIZE)]


def as_buffer(data: ImageBuffer) -> Buffer:
    """Return `data` as something whose slices are bytes, without a copy if that is possible."""
    if isinstance(data, (bytes, mmap)):
        return data
    if isinstance(data, memoryview) and isinstance(data.obj, (bytes, mmap)) and data.nbytes == len(data.obj):
        return data.obj
    return bytes(data)


def _refused_inode(nid: int, i_format: int, mode: int, mtime_ns: int) -> ErofsError:
    """Return the error for a header with a layout, a type or a time that no writer of images makes."""
    offset = nid * SLOT_SIZE
    if i_format not in KNOWN_I_FORMATS:
        return ErofsError(
            f"Invalid image: invalid data layout in inode format {i_format:#x} of inode {nid}",
            offset=offset,
            field="i_format",
        )
    if not KIND_OF_TYPE[mode >> 12]:
        return ErofsError(f"unknown file type 0o{mode & 0o170000:o}", offset=offset, field="i_mode")
    return ErofsError(
        f"expected less than 1000000000 nanoseconds, got {mtime_ns}", offset=offset, field="i_mtime_nsec"
    )


def show(name: bytes) -> str:
    """Return a name for a message, bytes that are not text escaped."""
    return name.decode("utf-8", "backslashreplace")
