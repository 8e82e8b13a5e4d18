"""Nodes of a file system tree.

A tree owns its directories; a leaf that several entries name is one object named several times,
which is what a hard link is. Nodes are plain slotted classes, since trees have them by the hundred
thousand. Names, link targets and attributes are bytes, as the kernel has them. The file type is the
class of the node and never part of its mode.
"""

from __future__ import annotations

import stat as _stat
from types import MappingProxyType
from typing import TYPE_CHECKING, ClassVar, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import ObjectID

NO_XATTRS: Final[Mapping[bytes, bytes]] = MappingProxyType({})
"""The attributes of a node that has none; shared, so that most nodes need no mapping of their own."""


class Node:
    """What directories and leaves have in common.

    Attributes:
        mode: Permission bits only, 0 to 0o7777.
        uid: Owner, 32 bits.
        gid: Group, 32 bits.
        mtime_s: Modification time, seconds since 1970; may be negative.
        mtime_ns: Nanoseconds, 0 to 999,999,999.
        xattrs: Extended attributes by full name, no particular order; treat as immutable.
    """

    __slots__ = ("gid", "mode", "mtime_ns", "mtime_s", "uid", "xattrs")

    file_type: ClassVar[int]
    """Type bits of st_mode, for example `stat.S_IFREG`."""

    def __init__(
        self,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store the metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs


class Directory(Node):
    """A directory; `entries` maps names to nodes in no particular order."""

    __slots__ = ("entries",)
    file_type = _stat.S_IFDIR

    def __init__(
        self,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Make an empty directory."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.entries: dict[bytes, Directory | Leaf] = {}


class Leaf(Node):
    """Anything but a directory. The same object under several names is a hard link."""

    __slots__ = ()


class InlineFile(Leaf):
    """A regular file whose content is in the image itself."""

    __slots__ = ("data",)
    file_type = _stat.S_IFREG

    def __init__(
        self,
        data: bytes,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.data = data


class ExternalFile(Leaf):
    """A regular file whose content is an object.

    Attributes:
        object_id: Names the object.
        size: Size of the content in bytes.
        has_digest: False for a file whose image entry names the object without its digest, so that
            the kernel does not verify it.
    """

    __slots__ = ("has_digest", "object_id", "size")
    file_type = _stat.S_IFREG

    def __init__(
        self,
        object_id: ObjectID,
        size: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.object_id = object_id
        self.size = size
        self.has_digest = True


class SparseFile(Leaf):
    """A regular file of `size` zero bytes, without any object."""

    __slots__ = ("size",)
    file_type = _stat.S_IFREG

    def __init__(
        self,
        size: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.size = size


class Symlink(Leaf):
    """A symbolic link."""

    __slots__ = ("target",)
    file_type = _stat.S_IFLNK

    def __init__(
        self,
        target: bytes,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.target = target


class CharDevice(Leaf):
    """A character device; number 0 is an overlayfs whiteout."""

    __slots__ = ("rdev",)
    file_type = _stat.S_IFCHR

    def __init__(
        self,
        rdev: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.rdev = rdev


class BlockDevice(Leaf):
    """A block device."""

    __slots__ = ("rdev",)
    file_type = _stat.S_IFBLK

    def __init__(
        self,
        rdev: int,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        self.mode = mode
        self.uid = uid
        self.gid = gid
        self.mtime_s = mtime_s
        self.mtime_ns = mtime_ns
        self.xattrs = xattrs
        self.rdev = rdev


class Fifo(Leaf):
    """A named pipe."""

    __slots__ = ()
    file_type = _stat.S_IFIFO


class Socket(Leaf):
    """A socket."""

    __slots__ = ()
    file_type = _stat.S_IFSOCK


class FileSystem:
    """A whole tree."""

    __slots__ = ("root",)

    def __init__(self, root: Directory) -> None:
        """Take ownership of the root directory."""
        self.root = root
