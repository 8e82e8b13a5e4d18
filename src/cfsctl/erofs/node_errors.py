"""Errors for trees that no image can hold, with the path of the node."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import ErofsError
from cfsctl.tree.model import Directory

_SHOWN_PATH: Final = 500
"""Bytes of a path that a message quotes: of a deep one the beginning and the end."""

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem, Leaf, Node


class NodeFault(Exception):  # noqa: N818 - never leaves the writer; it becomes an ErofsError with a path
    """A node with something that an image cannot hold.

    Nodes do not know their paths, so this is raised where the fault is found, and the path is looked
    up only then.

    Attributes:
        node: The node at fault.
        message: What is wrong with it.
        field: Field of the image that it does not fit.
    """

    def __init__(self, node: Node, message: str, field: str | None = None) -> None:
        """Store node and message."""
        super().__init__(message)
        self.node = node
        self.message = message
        self.field = field


def explain(fault: NodeFault, filesystem: FileSystem) -> ErofsError:
    """Return the error for the user, which names the path."""
    path = find_path(filesystem, fault.node)
    if len(path) > _SHOWN_PATH:
        path = path[: _SHOWN_PATH // 2] + b"..." + path[-_SHOWN_PATH // 2 :]
    return ErofsError(f"{printable(path)}: {fault.message}", field=fault.field)


def printable(path: bytes) -> str:
    """Return a path for a message."""
    shown = path.decode("utf-8", "backslashreplace")
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in shown)


def find_path(filesystem: FileSystem, node: Node) -> bytes:
    """Return the first path of a node, looking through the whole tree."""
    pending: list[tuple[bytes, Directory | Leaf]] = [(b"", filesystem.root)]
    while pending:
        path, found = pending.pop()
        if found is node:
            return path or b"/"
        if isinstance(found, Directory):
            entries = sorted(found.entries.items(), reverse=True)
            pending.extend((path + b"/" + name, entry) for name, entry in entries)
    return b"/"
