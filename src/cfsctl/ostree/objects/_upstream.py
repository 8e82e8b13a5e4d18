"""Read the non-standard objects that composefs-rs writes when it commits an image.

Names of extended attributes lack the final NUL, and devices, FIFOs and sockets are objects that contain only
their type. Such objects exist only in repositories written by composefs-rs. They are read from the store, so
that such a commit can be inspected. Objects that come from an OSTree repository, or go to one, must follow
the format.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.objects._base import OstreeObjectError, fail
from cfsctl.ostree.objects._directory import Dirmeta, parse_dirmeta, unpack_dirmeta
from cfsctl.ostree.objects._file import (
    FileHeader,
    check_file,
    parse_header_length,
    parse_zlib_file_header,
    split_header,
)
from cfsctl.ostree.objects._names import read_xattrs

if TYPE_CHECKING:
    from collections.abc import Callable

_DEVICES: Final = (stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)


def parse_stored_file_header(data: bytes, note: Callable[[], None]) -> FileHeader:
    """Decode the header of a file in a commit stream, also of composefs-rs's making.

    Args:
        data: The header, possibly followed by other data.
        note: Called for a header that only composefs-rs writes; names of its attributes are returned with
            their NUL.

    Raises:
        OstreeObjectError: As `parse_zlib_file_header`, unless composefs-rs would write that.
    """
    try:
        return parse_zlib_file_header(data)
    except OstreeObjectError as error:
        try:
            header = _parse_file_header(data)
        except OstreeObjectError:
            raise error from None
    note()
    return header


def parse_stored_dirmeta(data: bytes, note: Callable[[], None]) -> Dirmeta:
    """Decode a dirmeta of a commit stream, also of composefs-rs's making; see `parse_stored_file_header`."""
    try:
        return parse_dirmeta(data)
    except OstreeObjectError as error:
        try:
            uid, gid, mode, xattrs = unpack_dirmeta(data)
            meta = Dirmeta(uid, gid, mode, read_xattrs(xattrs, may_lack_nul=True))
        except OstreeObjectError:
            raise error from None
    note()
    return meta


def _parse_file_header(data: bytes) -> FileHeader:
    length = parse_header_length(data)
    if len(data) < length:
        fail("file header", f"{length} bytes", len(data))
    size = int.from_bytes(data[8:16], "big")
    uid, gid, mode, rdev, target, xattrs, regular = split_header(bytes(data[16:length]))
    kind = stat.S_IFMT(mode)
    if kind in _DEVICES and (size or rdev or target or mode & ~(kind | 0o7777)):
        fail("device", "nothing but a mode", "more")
    if kind not in _DEVICES:
        check_file(mode, rdev, target)
        if size and target:
            fail("size", "0 for a symbolic link", size, offset=8)
    pairs = read_xattrs(xattrs, may_lack_nul=True)
    return FileHeader(size, length, uid, gid, mode, target, pairs, regular)
