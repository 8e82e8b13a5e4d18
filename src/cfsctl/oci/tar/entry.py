"""One entry of an archive, with everything that its headers say."""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class EntryType(IntEnum):
    """Bytes of the types that layers have."""

    OLD_REGULAR = 0x00
    REGULAR = ord("0")
    HARD_LINK = ord("1")
    SYMLINK = ord("2")
    CHAR_DEVICE = ord("3")
    BLOCK_DEVICE = ord("4")
    DIRECTORY = ord("5")
    FIFO = ord("6")
    CONTIGUOUS = ord("7")


REGULAR_TYPES = frozenset({EntryType.OLD_REGULAR, EntryType.REGULAR, EntryType.CONTIGUOUS})
"""Types of regular files."""


class Entry:
    """One entry; archives have them by the hundred thousand, so this is a plain slotted class.

    Attributes:
        type: Byte of the type, see `EntryType`; any other may occur.
        path: Path as the archive has it, not empty.
        link_target: Target of a link as it is, or empty.
        size: Bytes of the body.
        content: The body of a regular file that is small, otherwise empty.
        is_external: Whether the body is an object of its own.
        mode: All 32 bits as found.
        uid: Owner.
        gid: Group.
        mtime_s: Modification time.
        mtime_ns: Its nanoseconds.
        device: Major and minor number, or None if the header has none.
        xattrs: Extended attributes, all of them.
        offset: Where its header is in the archive.
    """

    __slots__ = (
        "content",
        "device",
        "gid",
        "is_external",
        "link_target",
        "mode",
        "mtime_ns",
        "mtime_s",
        "offset",
        "path",
        "size",
        "type",
        "uid",
        "xattrs",
    )

    def __init__(
        self,
        type_: int,
        path: bytes,
        link_target: bytes,
        size: int,
        mode: int,
        uid: int,
        gid: int,
        mtime_s: int,
        mtime_ns: int,
        device: tuple[int, int] | None,
        xattrs: Mapping[bytes, bytes],
        offset: int,
        *,
        is_external: bool,
    ) -> None:
        """Keep everything."""
        self.type = type_
        self.path = path
        self.link_target = link_target
        self.size = size
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.device = device
        self.xattrs = xattrs
        self.offset = offset
        self.content = b""
        self.is_external = is_external
