"""What becomes of a scanned tree that is the root of a container or of an operating system.

Such trees are to have the same image whatever laid them out: the root directory, whose metadata
extractors do not agree about, takes that of ``/usr``; ``/run`` is emptied; and of the extended
attributes only those stay that do not depend on the host.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.progress import silent
from cfsctl.scan.scanner import scan_directory
from cfsctl.tree.model import NO_XATTRS, Directory
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm
    from cfsctl.progress import Reporter
    from cfsctl.scan.cache import FileCache
    from cfsctl.scan.store import ObjectSink
    from cfsctl.tree.model import FileSystem

_ALLOWED: Final = frozenset({b"security.capability"})


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


def scan_container_root(
    path: str,
    *,
    algorithm: Algorithm,
    store: ObjectSink | None = None,
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
    propagate_usr: bool = True,
    workers: int | None = None,
    cache: FileCache | None = None,
    reporter: Reporter = silent,
) -> FileSystem:
    """Return the tree of a directory that holds the root of a container.

    Args:
        path: The directory.
        algorithm: Hash algorithm of the objects.
        store: Where large files are stored, or None to compute their IDs only.
        xattr_filter: Which extended attributes stay.
        propagate_usr: Apply `apply_oci_transform`; otherwise the tree and all attributes stay as they are.
        workers: See `scan_directory`.
        cache: See `scan_directory`.
        reporter: See `scan_directory`.

    Raises:
        TransformError: There is no ``/usr``.
        ChangedError: A file changed meanwhile.
        OSError: Something cannot be read.
    """
    filesystem = scan_directory(
        path,
        algorithm=algorithm,
        store=store,
        # What will not stay need not be read.
        keep_xattr=xattr_filter.keeps if propagate_usr else None,
        workers=workers,
        cache=cache,
        reporter=reporter,
    )
    if propagate_usr:
        apply_oci_transform(filesystem, xattr_filter)
    return filesystem


def apply_oci_transform(filesystem: FileSystem, xattr_filter: XattrFilter) -> None:
    """Change a tree as the original does with the roots of containers.

    Raises:
        TransformError: ``/usr`` is missing, or it or ``/run`` is no directory.
    """
    root = filesystem.root
    usr = _directory(root, b"usr")
    root.mode, root.uid, root.gid = usr.mode, usr.uid, usr.gid
    root.mtime_s, root.mtime_ns = usr.mtime_s, usr.mtime_ns
    root.xattrs = usr.xattrs
    if b"run" in root.entries:
        run = _directory(root, b"run")
        run.entries.clear()
        run.mtime_s, run.mtime_ns = usr.mtime_s, usr.mtime_ns
    for node in iter_nodes(filesystem):
        if node.xattrs:
            kept = {name: value for name, value in node.xattrs.items() if xattr_filter.keeps(name)}
            node.xattrs = kept or NO_XATTRS


def _directory(parent: Directory, name: bytes) -> Directory:
    node = parent.entries.get(name)
    if node is None:
        raise TransformError(
            f'Directory entry "{name.decode()}" does not exist',
            hint="--no-propagate-usr-to-root takes the tree as it is",
        )
    if not isinstance(node, Directory):
        raise TransformError(f'Directory entry "{name.decode()}" is not a subdirectory')
    return node
