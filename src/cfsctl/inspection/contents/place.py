"""Find a place in a tree by its path."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.lookup import TreePathError, find_node
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, SparseFile

if TYPE_CHECKING:
    from typing import TypeGuard

    from cfsctl.inspection.diff import Entry, File
    from cfsctl.tree.model import FileSystem

_FILES: Final = (InlineFile, ExternalFile, SparseFile, RedirectedFile)


class Place(NamedTuple):
    """A node of a tree.

    Attributes:
        path: Its path from the root, which begins with a slash; no link is in it.
        node: The node.
    """

    path: bytes
    node: Entry


def find_place(filesystem: FileSystem, path: bytes, *, follow_last: bool = True) -> Place:
    """Return what a path leads to, with symbolic links resolved within the tree.

    Args:
        filesystem: The tree.
        path: Begins at the root, with a slash or without.
        follow_last: Whether a symbolic link at the end is followed; it always is where a slash follows.

    Raises:
        TreePathError: It leads to nothing, or a component in the middle is not a directory.
    """
    follow_last = follow_last or path.endswith(b"/")
    found = find_node(filesystem.root, path, follow_last=follow_last)
    if found is None:
        raise TreePathError(f"{os.fsdecode(path)}: no such file or directory in the tree")
    node, real = found
    if path.endswith(b"/") and not isinstance(node, Directory):
        raise TreePathError(f"{os.fsdecode(path)}: expected a directory, found a file")
    return Place(real, node)


def is_file(node: Entry) -> TypeGuard[File]:
    """Return whether a node is a regular file, wherever its content is."""
    return isinstance(node, _FILES)


def as_directory(place: Place) -> Directory:
    """Return the directory at a place; of anything else, a directory with that alone, as old as that."""
    node = place.node
    if isinstance(node, Directory):
        return node
    directory = Directory(0o755, node.uid, node.gid, node.mtime_s, node.mtime_ns)
    directory.entries[place.path.rpartition(b"/")[2]] = node
    return directory
