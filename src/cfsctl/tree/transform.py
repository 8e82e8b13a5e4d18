"""What becomes of a tree that is the root of a container or of an operating system.

Such trees are to have the same image whatever laid them out: the root directory, whose metadata
extractors do not agree about, takes that of ``/usr``; ``/run`` is emptied; and of the extended
attributes only those stay that do not depend on the host.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.tree.model import NO_XATTRS, Directory
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem

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
        return name in _ALLOWED or (self is XattrFilter.KEEP_USER and name.startswith(b"user."))


def apply_oci_transform(
    filesystem: FileSystem, xattr_filter: XattrFilter, *, hint: str = _NO_USR_HINT
) -> None:
    """Change a tree as the original does with the roots of containers.

    Args:
        filesystem: The tree.
        xattr_filter: Which extended attributes stay.
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
        run = find_directory(root, b"run")
        run.entries.clear()
        run.mtime_s, run.mtime_ns = usr.mtime_s, usr.mtime_ns
    for node in iter_nodes(filesystem):
        if node.xattrs:
            kept = {name: value for name, value in node.xattrs.items() if xattr_filter.keeps(name)}
            node.xattrs = kept or NO_XATTRS


def find_directory(parent: Directory, name: bytes, *, hint: str | None = None) -> Directory:
    """Return a directory of a tree.

    Raises:
        TransformError: There is none of that name.
    """
    node = parent.entries.get(name)
    text = name.decode("utf-8", "backslashreplace")
    if node is None:
        raise TransformError(f'Directory entry "{text}" does not exist', hint=hint)
    if not isinstance(node, Directory):
        raise TransformError(f'Directory entry "{text}" is not a subdirectory')
    return node
