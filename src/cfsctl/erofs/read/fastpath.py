"""Fast path: records of usual leaves, decoded in one step.

Nearly every inode of a composefs image is a regular file whose attributes are references to shared
ones, then its metacopy and its redirect, and behind them one null chunk; or a small file or link with
nothing but references, and its content behind them. The first four bytes of such an inode tell where
all of that is, so one compiled structure per value of those bytes decodes the record. Comparing the
bytes that must be constant shows whether it is such a record. Anything else is decoded field by field.
"""

from __future__ import annotations

import stat
import struct
from binascii import hexlify
from typing import TYPE_CHECKING, Any, Final

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    I_FORMAT_EXTENDED,
    NULL_CHUNK,
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    DataLayout,
    DirentType,
)
from cfsctl.erofs.read.attributes import external_tail
from cfsctl.tree.model import NO_XATTRS, ExternalFile, InlineFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import Buffer
    from cfsctl.erofs.read.image import Image
    from cfsctl.tree.model import Leaf

_MAX_REFERENCES: Final = 32
"""Shared attributes of a record that still counts as usual; bounds the number of shapes."""

_REGULAR: Final = int(DirentType.REGULAR)
_SYMLINK: Final = int(DirentType.SYMLINK)
_REGULAR_MODE: Final = stat.S_IFREG >> 12
_SYMLINK_MODE: Final = stat.S_IFLNK >> 12
_COMPACT_FIELDS: Final = "<4xHHI4xI4xHH4x"
_EXTENDED_FIELDS: Final = "<4xH2xQI4xIIqI"
_NLINK_AND_RESERVED: Final = 20
"""Bytes of an extended inode from its link count on."""

_ONE_NAME: Final = (1).to_bytes(4, "little")
_MAX_NS: Final = 999_999_999
_MAX_CHUNK_FORMAT: Final = 31


class _Shape:
    """Where the parts of a record are.

    Attributes:
        unpack: Takes image and offset. The fields of an extended inode are mode, size, u, uid, gid,
            mtime_s, mtime_ns; those of a compact one mode, nlink, size, u, uid, gid. Then follows what
            comes before the digest, and in records of external files the digest and all that is behind it.
        max_nid: Largest inode whose record is inside the image.
        size: Bytes of the record, without content.
        is_extended: Which of the two.
        is_external: The content is elsewhere.
        skipped: Bytes before the attribute body in what comes before the digest: of an extended inode
            its link count and the reserved bytes, which are nearly always the same.
        known: The tree's own attributes by what came before the digest of records that were usual.
    """

    __slots__ = ("is_extended", "is_external", "known", "max_nid", "size", "skipped", "unpack")

    def __init__(
        self, body_size: int, behind: str, data_size: int, *, is_extended: bool, is_external: bool
    ) -> None:
        self.skipped = _NLINK_AND_RESERVED if is_extended else 0
        fields = _EXTENDED_FIELDS if is_extended else _COMPACT_FIELDS
        compiled = struct.Struct(f"{fields}{self.skipped + body_size}s{behind}")
        self.unpack: Callable[[Buffer, int], tuple[Any, ...]] = compiled.unpack_from
        self.size = compiled.size
        self.max_nid = (data_size - compiled.size) // SLOT_SIZE
        self.is_extended = is_extended
        self.is_external = is_external
        self.known: dict[bytes, Mapping[bytes, bytes]] = {}

    def learn(
        self, head: bytes, end: bytes, read_references: Callable[[bytes], Mapping[bytes, bytes] | None]
    ) -> Mapping[bytes, bytes] | None:
        """Return the attributes in what comes before a digest, and remember them, if all there is usual.

        Args:
            head: What comes before the digest.
            end: What it has to end in.
            read_references: As `leaf_reader` takes it.
        """
        if not head.endswith(end) or (self.is_extended and head[:4] != _ONE_NAME):
            return None
        body = head[self.skipped : len(head) - len(end)]
        xattrs = read_references(body) if body else NO_XATTRS
        if xattrs is not None:
            self.known[head] = xattrs
        return xattrs


class _Shapes(dict[bytes, "_Shape | None"]):
    """Shape by the first four bytes of an inode; None if those are of no usual record.

    Attributes:
        metacopy_start: What comes just before the digest.
        behind_digest: What comes between the digest and the path of the object.
        behind_path: What the record ends in: padding and one null chunk.
    """

    def __init__(self, algorithm: Algorithm, data_size: int) -> None:
        super().__init__()
        self._data_size = data_size
        self._digest_size = algorithm.digest_size
        tail = self._tail = external_tail(algorithm)
        path_end = tail.path_offset + 2 * algorithm.digest_size + 1
        self.metacopy_start = tail.metacopy_start
        self.behind_digest = bytes(tail.redirect_offset - tail.digest_end) + tail.redirect_start
        self.behind_path = bytes(tail.size - path_end) + NULL_CHUNK

    def __missing__(self, start: bytes) -> _Shape | None:
        i_format, icount = struct.unpack("<HH", start)
        is_extended = bool(i_format & I_FORMAT_EXTENDED)
        body = XATTR_BODY_HEADER.size + (icount - 1) * 4 if icount else 0
        shape = None
        match i_format & ~I_FORMAT_EXTENDED:
            case DataLayout.CHUNK if _are_references(body - self._tail.size):
                before = body - self._tail.size + len(self.metacopy_start)
                behind = f"{self._digest_size}s{self._tail.size - self._tail.digest_end + len(NULL_CHUNK)}s"
                shape = _Shape(before, behind, self._data_size, is_extended=is_extended, is_external=True)
            case DataLayout.INLINE if not body or _are_references(body):
                shape = _Shape(body, "", self._data_size, is_extended=is_extended, is_external=False)
        self[start] = shape
        return shape


def _are_references(size: int) -> bool:
    """Return whether an attribute body may be nothing but references, not too many, by its size."""
    return XATTR_BODY_HEADER.size <= size <= XATTR_BODY_HEADER.size + 4 * _MAX_REFERENCES


def leaf_reader(
    image: Image, algorithm: Algorithm, read_references: Callable[[bytes], Mapping[bytes, bytes] | None]
) -> Callable[[int, int], Leaf | None]:
    """Return a function that reads a leaf by inode and type if its record is usual, or else returns None.

    Args:
        image: The image; each record that is read is charged for.
        algorithm: Hash of the objects.
        read_references: Takes an attribute body of nothing but references and returns the tree's own
            attributes in it, or None if it has others or cannot be decoded.
    """
    data = image.data
    build_time_s, build_time_ns = image.superblock.build_time_s, image.superblock.build_time_ns
    shapes = _Shapes(algorithm, len(data))
    metacopy, behind_digest, behind_path = shapes.metacopy_start, shapes.behind_digest, shapes.behind_path
    slash = algorithm.digest_size - 1
    read_small = _small_leaf_reader(image, read_references)

    def read(nid: int, kind: int) -> Leaf | None:
        offset = nid << 5
        shape = shapes[data[offset : offset + 4]]
        if shape is None or nid > shape.max_nid:
            return None
        if not shape.is_external:
            return read_small(shape, offset, kind)
        if shape.is_extended:
            mode, size, u, uid, gid, mtime_s, mtime_ns, head, digest, rest = shape.unpack(data, offset)
        else:
            mode, nlink, size, u, uid, gid, head, digest, rest = shape.unpack(data, offset)
            if nlink != 1:
                return None
            mtime_s, mtime_ns = build_time_s, build_time_ns
        if (
            rest != behind_digest + hexlify(digest, "/", slash) + behind_path
            or kind != _REGULAR
            or mode >> 12 != _REGULAR_MODE
            or mtime_ns > _MAX_NS
            or u > _MAX_CHUNK_FORMAT
            or not 0 < size <= BLOCK_SIZE << u
        ):
            return None
        xattrs = shape.known.get(head)
        if xattrs is None:
            xattrs = shape.learn(head, metacopy, read_references)
            if xattrs is None:
                return None
        image.unclaimed -= shape.size
        return ExternalFile(digest, size, mode & 0o7777, uid, gid, mtime_s, mtime_ns, xattrs)

    return read


def _small_leaf_reader(
    image: Image, read_references: Callable[[bytes], Mapping[bytes, bytes] | None]
) -> Callable[[_Shape, int, int], Leaf | None]:
    """Return a function that reads a leaf with its content behind its attributes; see `leaf_reader`."""
    data = image.data
    build_time_s, build_time_ns = image.superblock.build_time_s, image.superblock.build_time_ns

    def read(shape: _Shape, offset: int, kind: int) -> Leaf | None:
        if shape.is_extended:
            mode, size, _, uid, gid, mtime_s, mtime_ns, head = shape.unpack(data, offset)
        else:
            mode, nlink, size, _, uid, gid, head = shape.unpack(data, offset)
            if nlink != 1:
                return None
            mtime_s, mtime_ns = build_time_s, build_time_ns
        start = offset + shape.size
        content = data[start : start + size] if 0 < size < BLOCK_SIZE else b""
        if not content or len(content) != size or mtime_ns > _MAX_NS:
            return None
        xattrs = shape.known.get(head)
        if xattrs is None:
            xattrs = shape.learn(head, b"", read_references)
            if xattrs is None:
                return None
        leaf: Leaf | None = None
        if kind == _REGULAR and mode >> 12 == _REGULAR_MODE:
            leaf = InlineFile(content, mode & 0o7777, uid, gid, mtime_s, mtime_ns, xattrs)
        elif kind == _SYMLINK and mode >> 12 == _SYMLINK_MODE and b"\0" not in content:
            leaf = Symlink(content, mode & 0o7777, uid, gid, mtime_s, mtime_ns, xattrs)
        if leaf is not None:
            image.unclaimed -= shape.size + size
        return leaf

    return read


def object_collector(
    image: Image, algorithm: Algorithm, found: set[ObjectID], read_references: Callable[[bytes], bool]
) -> Callable[[int], bool]:
    """Return a function that adds the object of one file if its record is usual, or else returns False.

    Args:
        image: The image; each record that is read is charged for.
        algorithm: Hash of the objects.
        found: Where the objects go.
        read_references: Takes an attribute body of nothing but references, collects from it, and
            returns False where it cannot be decoded as such.
    """
    data = image.data
    shapes = _Shapes(algorithm, len(data))
    metacopy, behind_digest, behind_path = shapes.metacopy_start, shapes.behind_digest, shapes.behind_path
    slash = algorithm.digest_size - 1

    def learn(shape: _Shape, head: bytes) -> bool:
        is_usual = head.endswith(metacopy) and read_references(head[shape.skipped : -len(metacopy)])
        if is_usual:
            shape.known[head] = NO_XATTRS
        return is_usual

    def collect(nid: int) -> bool:
        offset = nid << 5
        shape = shapes[data[offset : offset + 4]]
        if shape is None or not shape.is_external or nid > shape.max_nid:
            return False
        fields = shape.unpack(data, offset)
        head, digest, rest = fields[-3:]
        if fields[0] >> 12 != _REGULAR_MODE or (
            rest != behind_digest + hexlify(digest, "/", slash) + behind_path
        ):
            return False
        if head not in shape.known and not learn(shape, head):
            return False
        image.unclaimed -= shape.size
        found.add(digest)
        return True

    return collect
