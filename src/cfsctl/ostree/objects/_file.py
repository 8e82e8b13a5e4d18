"""Headers of regular files and symbolic links."""

from __future__ import annotations

import stat
import struct
from functools import lru_cache
from typing import Final, NamedTuple

from cfsctl.gvariant.framing import format_offsets, is_minimal
from cfsctl.ostree.objects._base import (
    MAX_FILE_HEADER_SIZE,
    MAX_TARGET_SIZE,
    check_range,
    fail,
    offset_width,
)
from cfsctl.ostree.objects._names import COMMON_SIZE, Xattrs, format_xattrs, is_utf8, parse_xattrs, shown

SIZED_PREFIX: Final = 8
"""Bytes before the variant of a file header: its length and padding."""


class FileHeader(NamedTuple):
    """Header of a regular file or symbolic link as an archive repository stores it.

    Attributes:
        size_bytes: Size of the plain content as the header claims it; no checksum covers this.
        length_bytes: Size of the header in the ``.filez``; deflate data follows for a regular file,
            nothing may follow for a symbolic link.
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: Extended attributes.
        regular_header: What the file's checksum covers before the plain content.
    """

    size_bytes: int
    length_bytes: int
    uid: int
    gid: int
    mode: int
    target: bytes
    xattrs: Xattrs
    regular_header: bytes

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link; else it is a regular file."""
        return self.mode & 0o170000 == stat.S_IFLNK


_SIZED: Final = struct.Struct(">II")
_SIZED_ZLIB: Final = struct.Struct(">IIQ")
_OWNERSHIP: Final = struct.Struct(">IIII")
_META: Final = struct.Struct(">III")


class _Attributes(NamedTuple):
    """The part of a file header that repeats from file to file."""

    uid: int
    gid: int
    mode: int
    target: bytes
    xattrs: Xattrs
    regular_header: bytes


def parse_header_length(data: bytes | memoryview) -> int:
    """Return the size in bytes of the file header that begins with these 8 bytes, the 8 included.

    Raises:
        OstreeObjectError: Too short, a length below the smallest header or above 16 MiB, or padding
            that is not zero.
    """
    if len(data) < SIZED_PREFIX:
        fail("header length", f"{SIZED_PREFIX} bytes", len(data))
    length, padding = _SIZED.unpack_from(data)
    if not 26 <= length <= MAX_FILE_HEADER_SIZE:
        fail("header length", f"26 to {MAX_FILE_HEADER_SIZE} bytes", length)
    if padding:
        fail("header padding", "4 zero bytes", f"{padding:#010x}", offset=4)
    return int(length) + SIZED_PREFIX


def parse_zlib_file_header(data: bytes | memoryview) -> FileHeader:
    """Decode the header at the start of a ``.filez``, or as a commit stream stores it.

    A caller that has a symbolic link checks that nothing follows the header.

    Args:
        data: The header, possibly followed by other data.

    Raises:
        OstreeObjectError: Not in normal form, cut off, neither regular file nor symbolic link, a
            device number, mode bits outside type and 07777, a target where none may be or none where
            one must be, a symbolic link with a size, or broken extended attributes.
    """
    length = parse_header_length(data)
    if len(data) < length:
        fail("file header", f"{length} bytes", len(data))
    tail = bytes(data[16:length])
    attributes = _read_common_tail(tail) if len(tail) <= COMMON_SIZE else _read_tail(tail)
    size = int.from_bytes(data[8:16], "big")
    if size and attributes.target:
        fail("size", "0 for a symbolic link", size, offset=8)
    # Half the time of calling FileHeader, once per file of a pull.
    return tuple.__new__(FileHeader, (size, length, *attributes))


def split_header(tail: bytes) -> tuple[int, int, int, int, bytes, bytes, bytes]:
    """Split what follows the size in a file header: ``uuuusa(ayay)`` and its offset.

    Returns:
        Owner, group, mode, device number, target, extended attributes as they are, and what a checksum covers
        of them. None of that is checked.

    Raises:
        OstreeObjectError: Its members do not fit.
    """
    variant_size = len(tail) + 8
    width = offset_width(variant_size)
    table = len(tail) - width
    target_end = int.from_bytes(tail[table:], "little") - 8
    if not 17 <= target_end <= table or tail[target_end - 1]:
        fail("target", "a string that ends within the header", f"its end at {target_end + 8}")
    if not is_minimal(table + 8, 1, variant_size):
        fail("file header", "offsets of the smallest width", f"{width} bytes")
    uid, gid, mode, rdev = _OWNERSHIP.unpack_from(tail)
    target = tail[16 : target_end - 1]
    regular = _sized(_frame_header(tail[:table], target_end))
    return uid, gid, mode, rdev, target, tail[target_end:table], regular


def _read_tail(tail: bytes) -> _Attributes:
    """Decode what follows the size in a file header, and check it."""
    uid, gid, mode, rdev, target, xattrs, regular = split_header(tail)
    check_file(mode, rdev, target)
    return _Attributes(uid, gid, mode, target, parse_xattrs(xattrs), regular)


_read_common_tail = lru_cache(maxsize=1024)(_read_tail)


def check_file(mode: int, rdev: int, target: bytes) -> None:
    """Check what a mode, a device number and a target say together.

    Raises:
        OstreeObjectError: Neither a regular file nor a symbolic link as they should be.
    """
    kind = mode & ~0o7777
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        fail("mode", "a regular file or symbolic link and bits within 07777", f"{mode:#o}")
    if rdev:
        fail("rdev", "0", rdev)
    if kind == stat.S_IFREG:
        if target:
            fail("target", "none for a regular file", shown(target))
    else:
        check_target(target)


def check_target(target: bytes) -> None:
    """Check the target of a symbolic link.

    Raises:
        OstreeObjectError: Empty, over 4095 bytes, not UTF-8, or with a NUL.
    """
    if not 1 <= len(target) <= MAX_TARGET_SIZE:
        fail("target", f"1 to {MAX_TARGET_SIZE} bytes", len(target))
    if b"\0" in target or not is_utf8(target):
        fail("target", "UTF-8 without NUL", shown(target))


def _frame_header(body: bytes, target_end: int) -> bytes:
    """Append the end of the target, the only offset of a file header."""
    return body + format_offsets(len(body), (target_end,))


def _sized(variant: bytes) -> bytes:
    return _SIZED.pack(len(variant), 0) + variant


def _format_ownership(uid: int, gid: int, mode: int, target: bytes) -> bytes:
    """Serialise ``uuuus``, the members that both forms of a file header share."""
    check_file(mode, 0, target)
    check_range("uid", uid, 32)
    check_range("gid", gid, 32)
    return _OWNERSHIP.pack(uid, gid, mode, 0) + target + b"\0"


def format_regular_header(uid: int, gid: int, mode: int, target: bytes = b"", xattrs: Xattrs = ()) -> bytes:
    """Return what a file's checksum covers before its content.

    Args:
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: (name with its final NUL, value) in stored order.

    Raises:
        OstreeObjectError: Something that `parse_zlib_file_header` would refuse.
    """
    body = _format_ownership(uid, gid, mode, target)
    return _sized(_frame_header(body + format_xattrs(xattrs), len(body)))


def format_zlib_header(
    size_bytes: int, uid: int, gid: int, mode: int, target: bytes = b"", xattrs: Xattrs = ()
) -> bytes:
    """Return the header of a ``.filez``, which is also what a commit stream stores.

    Args:
        size_bytes: Size of the plain content, 0 for a symbolic link.
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: (name with its final NUL, value) in stored order.

    Raises:
        OstreeObjectError: Something that `parse_zlib_file_header` would refuse.
    """
    check_range("size", size_bytes, 64)
    if size_bytes and target:
        fail("size", "0 for a symbolic link", size_bytes)
    body = size_bytes.to_bytes(8, "big") + _format_ownership(uid, gid, mode, target)
    return _sized(_frame_header(body + format_xattrs(xattrs), len(body)))


def format_file_meta(header: FileHeader) -> bytes:
    """Return the attribute ``user.ostreemeta`` of a file in a bare-user repository.

    Format: (uuua(ayay)), owner, group, mode, attributes; big-endian.
    """
    return _META.pack(header.uid, header.gid, header.mode) + format_xattrs(header.xattrs)
