"""Records of external files, taken apart in one go.

Nearly every inode of a composefs image is a regular file whose attributes are references to shared
ones, then its metacopy and its redirect, and behind them one null chunk. The first four bytes of such
an inode tell where all of that is, so one compiled structure per value of those bytes takes the record
apart; whether it is such a record at all is seen by comparing the bytes that must be constant. Anything
else is decoded field by field.
"""

from __future__ import annotations

import stat
import struct
from binascii import hexlify
from typing import TYPE_CHECKING, Any, Final

from cfsctl.erofs.attributes import external_tail
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    I_FORMAT_EXTENDED,
    NULL_CHUNK,
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    DataLayout,
)
from cfsctl.tree.model import ExternalFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import Buffer
    from cfsctl.erofs.image import Image

_MAX_REFERENCES: Final = 32
"""Shared attributes of a record that still counts as usual; bounds the number of shapes."""

_REGULAR_MODE: Final = stat.S_IFREG >> 12
_SLASH: Final = ord("/")
_MAX_NS: Final = 999_999_999
_MAX_CHUNK_FORMAT: Final = 31


class _Shape:
    """Where the parts of a record are.

    Attributes:
        unpack: Takes image and offset. The fields of an extended inode are mode, size, u, uid, gid,
            mtime_s, mtime_ns, nlink; those of a compact one mode, nlink, size, u, uid, gid; then follow
            the references with the constant before the digest, the digest, the constant before the path,
            the path in three parts, the slash one of them, and the chunk.
        max_nid: Largest inode whose record is inside the image.
        size: Bytes of the record.
        is_extended: Which of the two.
    """

    __slots__ = ("is_extended", "max_nid", "size", "unpack")

    def __init__(self, layout: str, data_size: int, *, is_extended: bool) -> None:
        compiled = struct.Struct(layout)
        self.unpack: Callable[[Buffer, int], tuple[Any, ...]] = compiled.unpack_from
        self.size = compiled.size
        self.max_nid = (data_size - compiled.size) // SLOT_SIZE
        self.is_extended = is_extended


class _Shapes(dict[bytes, "_Shape | None"]):
    """Shape by the first four bytes of an inode; None where those are of no usual record."""

    def __init__(self, algorithm: Algorithm, data_size: int) -> None:
        super().__init__()
        self._data_size = data_size
        self._tail = external_tail(algorithm)
        self._path_size = 2 * algorithm.digest_size + 1

    def __missing__(self, start: bytes) -> _Shape | None:
        i_format, icount = struct.unpack("<HH", start)
        references = XATTR_BODY_HEADER.size + (icount - 1) * 4 - self._tail.size
        shape = None
        is_small = XATTR_BODY_HEADER.size <= references <= XATTR_BODY_HEADER.size + 4 * _MAX_REFERENCES
        if is_small and i_format & ~I_FORMAT_EXTENDED == DataLayout.CHUNK:
            is_extended = bool(i_format & I_FORMAT_EXTENDED)
            header = "<4xH2xQI4xIIqII16x" if is_extended else "<4xHHI4xI4xHH4x"
            shape = _Shape(header + self._body(references), self._data_size, is_extended=is_extended)
        self[start] = shape
        return shape

    def _body(self, references: int) -> str:
        tail = self._tail
        metacopy, redirect = len(tail.metacopy_start), len(tail.redirect_start)
        padding = tail.size - tail.path_offset - self._path_size
        return (
            f"{references + metacopy}s{tail.digest_end - metacopy}s"
            f"{tail.redirect_offset - tail.digest_end}x{redirect}s2sB{self._path_size - 3}s{padding}x4s"
        )


def external_file_reader(
    image: Image, algorithm: Algorithm, read_references: Callable[[bytes], Mapping[bytes, bytes] | None]
) -> Callable[[int], ExternalFile | None]:
    """Return a function that reads an external file if its record is usual, or else returns None.

    Args:
        image: The image; each record that is read is charged for.
        algorithm: Hash of the objects.
        read_references: Takes an attribute body of nothing but references and returns the tree's own
            attributes in it, or None where it has others or cannot be decoded.
    """
    data = image.data
    build_time_s, build_time_ns = image.superblock.build_time_s, image.superblock.build_time_ns
    shapes = _Shapes(algorithm, len(data))
    tail = external_tail(algorithm)
    metacopy, redirect_start = tail.metacopy_start, tail.redirect_start
    digest_offset = len(metacopy)
    known: dict[bytes, Mapping[bytes, bytes]] = {}

    def read(nid: int) -> ExternalFile | None:
        offset = nid << 5
        shape = shapes[data[offset : offset + 4]]
        if shape is None or nid > shape.max_nid:
            return None
        if shape.is_extended:
            (
                mode,
                size,
                u,
                uid,
                gid,
                mtime_s,
                mtime_ns,
                nlink,
                references,
                digest,
                redirect,
                fanout,
                slash,
                rest,
                chunk,
            ) = shape.unpack(data, offset)
        else:
            mode, nlink, size, u, uid, gid, references, digest, redirect, fanout, slash, rest, chunk = (
                shape.unpack(data, offset)
            )
            mtime_s, mtime_ns = build_time_s, build_time_ns
        if (
            mode >> 12 != _REGULAR_MODE
            or nlink != 1
            or fanout + rest != hexlify(digest)
            or slash != _SLASH
            or redirect != redirect_start
            or chunk != NULL_CHUNK
            or mtime_ns > _MAX_NS
            or u > _MAX_CHUNK_FORMAT
            or not 0 < size <= BLOCK_SIZE << u
        ):
            return None
        xattrs = known.get(references)
        if xattrs is None:
            xattrs = read_references(references[:-digest_offset]) if references.endswith(metacopy) else None
            if xattrs is None:
                return None
            known[references] = xattrs
        image.unclaimed -= shape.size
        return ExternalFile(digest, size, mode & 0o7777, uid, gid, mtime_s, mtime_ns, xattrs)

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
    tail = external_tail(algorithm)
    metacopy, redirect_start = tail.metacopy_start, tail.redirect_start
    digest_offset = len(metacopy)
    known: set[bytes] = set()

    def collect(nid: int) -> bool:
        offset = nid << 5
        shape = shapes[data[offset : offset + 4]]
        if shape is None or nid > shape.max_nid:
            return False
        fields = shape.unpack(data, offset)
        references, digest, redirect, fanout, slash, rest, _ = fields[-7:]
        if (
            fields[0] >> 12 != _REGULAR_MODE
            or fanout + rest != hexlify(digest)
            or slash != _SLASH
            or redirect != redirect_start
        ):
            return False
        if references not in known:
            if not references.endswith(metacopy) or not read_references(references[:-digest_offset]):
                return False
            known.add(references)
        image.unclaimed -= shape.size
        found.add(digest)
        return True

    return collect
