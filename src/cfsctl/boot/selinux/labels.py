"""Labels put on the nodes of a tree."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Final

from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    Fifo,
    Leaf,
    Node,
    Socket,
    Symlink,
)
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from cfsctl.boot.selinux.policy import Policy
    from cfsctl.tree.model import FileSystem

LABEL: Final = b"security.selinux"
_LETTERS: Final[dict[type[Node], str]] = {
    Directory: "d",
    Symlink: "l",
    BlockDevice: "b",
    CharDevice: "c",
    Fifo: "p",
    Socket: "s",
}
"""Letters of types; regular files, of which there are several classes, have ``-``."""


def remove_labels(filesystem: FileSystem) -> None:
    """Remove every label: those of the machine that built the tree mean nothing elsewhere."""
    for node in iter_nodes(filesystem):
        _set_label(node, None)


def apply_labels(filesystem: FileSystem, policy: Policy) -> None:
    """Give every node the label that the policy has for its path, replacing what is there.

    The names of a hard link may have different labels. The first name in order of the walk decides for the
    node; each later name with another label becomes a file of its own, with the same content.
    """
    labels: dict[Leaf, bytes | None] = {}
    root = filesystem.root
    _set_label(root, policy.find_label(b"/", "d"))
    # Directories are entered where they sort, without recursion: trees are up to 2048 levels deep.
    stack = [(root, b"/", iter(sorted(root.entries)))]
    while stack:
        directory, path, names = stack[-1]
        for name in names:
            child_path = path + name if path.endswith(b"/") else path + b"/" + name
            child_path = policy.aliases.get(child_path, child_path)
            child = directory.entries[name]
            label = policy.find_label(child_path, _LETTERS.get(type(child), "-"))
            if isinstance(child, Directory):
                _set_label(child, label)
                stack.append((child, child_path, iter(sorted(child.entries))))
                break
            directory.entries[name] = _label_leaf(child, label, labels)
        else:
            stack.pop()


def _label_leaf(leaf: Leaf, label: bytes | None, labels: dict[Leaf, bytes | None]) -> Leaf:
    """Label a leaf, or return a copy with this label if another name has given it another one."""
    if leaf not in labels:
        labels[leaf] = label
    elif labels[leaf] != label:
        # Compared with the first label only: two later names get two copies, as with the original.
        leaf = copy.copy(leaf)
    else:
        return leaf
    _set_label(leaf, label)
    return leaf


def _set_label(node: Node, label: bytes | None) -> None:
    xattrs = node.xattrs
    if label is None:
        if LABEL in xattrs:
            node.xattrs = {name: value for name, value in xattrs.items() if name != LABEL} or NO_XATTRS
    elif xattrs.get(LABEL) != label:
        node.xattrs = {**xattrs, LABEL: label}
