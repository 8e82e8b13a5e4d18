"""What becomes of a tree before an image is made of it.

The root of a container or of an operating system is to have the same image whatever laid it out: the root
directory, whose metadata extractors do not agree about, takes that of ``/usr``; ``/run`` is emptied; and of
the extended attributes only those stay that do not depend on the host.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.tree.model import NO_XATTRS, BlockDevice, CharDevice, Directory
from cfsctl.tree.walk import iter_directories, iter_nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.tree.model import FileSystem, Node

_ALLOWED: Final = frozenset({b"security.capability"})
_NO_USR_HINT: Final = "--no-propagate-usr-to-root takes the tree as it is"


class TransformError(CfsError):
    """A tree that lacks what the root of a container has."""

    exit_code = ExitCode.NOT_FOUND


class XattrFilter(Enum):
    """Which extended attributes stay."""

    ALLOWLIST_ONLY = "allowlist-only"
    KEEP_USER = "keep-user-xattrs"

    def keeps(self, name: bytes) -> bool:
        """Return whether an attribute of this name stays."""
        return name in _ALLOWED or (self is XattrFilter.KEEP_USER and keeps_user(name))


def apply_oci_transform(
    filesystem: FileSystem, xattr_filter: XattrFilter | None, *, hint: str = _NO_USR_HINT
) -> None:
    """Change a tree as the original does with the roots of containers.

    Args:
        filesystem: The tree.
        xattr_filter: Which extended attributes stay; None if the tree has no others.
        hint: What to do about a tree without ``/usr``.

    Raises:
        TransformError: ``/usr`` is missing, or it or ``/run`` is not a directory.
    """
    root = filesystem.root
    usr = find_directory(root, b"usr", hint=hint)
    root.mode, root.uid, root.gid = usr.mode, usr.uid, usr.gid
    root.mtime_s, root.mtime_ns = usr.mtime_s, usr.mtime_ns
    root.xattrs = usr.xattrs
    if b"run" in root.entries:
        empty_directory(find_directory(root, b"run"), usr)
    if xattr_filter is not None:
        filter_xattrs(filesystem, xattr_filter.keeps)


def find_directory(parent: Directory, name: bytes, *, hint: str | None = None) -> Directory:
    """Return a directory of a tree.

    Raises:
        TransformError: Nothing has that name.
    """
    node = parent.entries.get(name)
    text = name.decode("utf-8", "backslashreplace")
    if node is None:
        raise TransformError(f'Directory entry "{text}" does not exist', hint=hint)
    if not isinstance(node, Directory):
        raise TransformError(f'Directory entry "{text}" is not a subdirectory')
    return node


def empty_directory(directory: Directory, like: Node, *, keep_nanoseconds: bool = False) -> None:
    """Remove all that is in a directory, and give it the modification time of something else.

    Args:
        directory: The directory.
        like: What has the time.
        keep_nanoseconds: Leave the fraction of the second as it is.
    """
    directory.entries.clear()
    directory.mtime_s = like.mtime_s
    if not keep_nanoseconds:
        directory.mtime_ns = like.mtime_ns


def filter_xattrs(filesystem: FileSystem, keeps: Callable[[bytes], bool]) -> None:
    """Remove the extended attributes whose names are not kept."""
    for node in iter_nodes(filesystem):
        if node.xattrs:
            node.xattrs = {name: node.xattrs[name] for name in node.xattrs if keeps(name)} or NO_XATTRS


def reset_times(filesystem: FileSystem, *, keep_seconds: bool = False) -> None:
    """Make all modification times zero, or their fractions only."""
    for node in iter_nodes(filesystem):
        node.mtime_ns = 0
        if not keep_seconds:
            node.mtime_s = 0


def remove_devices(filesystem: FileSystem) -> None:
    """Remove all device nodes, whiteouts among them."""
    for directory in iter_directories(filesystem):
        entries = directory.entries
        for name in [name for name in entries if isinstance(entries[name], CharDevice | BlockDevice)]:
            del entries[name]


def keeps_user(name: bytes) -> bool:
    """Return whether an extended attribute is the user's."""
    return name.startswith(b"user.")


def keeps_none(_name: bytes) -> bool:
    """Return that no extended attribute stays."""
    return False
