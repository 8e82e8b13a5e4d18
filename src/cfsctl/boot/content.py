"""Contents of files in a tree, wherever they are kept."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.errors import FormatError
from cfsctl.tree.lookup import TreePathError, find_node
from cfsctl.tree.model import Directory, ExternalFile, InlineFile, Leaf, SparseFile

if TYPE_CHECKING:
    from cfsctl.tree.model import FileSystem

MAX_TEXT_BYTES: Final = 16 << 20
"""Largest file that is read as text: policies have some 600 kB."""


class ContentReader(Protocol):
    """Reads the content of a file that is an object."""

    def __call__(self, path: bytes, node: ExternalFile, /) -> bytes:
        """Return the whole content.

        Args:
            path: Path of the file in the tree, without symbolic links.
            node: The file.
        """


class BootFileError(FormatError):
    """A file that is needed for booting and has the wrong kind, size or content."""


def read_file(filesystem: FileSystem, path: bytes, reader: ContentReader) -> bytes | None:
    """Return the content of the regular file that a path leads to; None if none exists.

    A file of zero bytes only, which has no object, counts as missing, as with the original.

    Raises:
        BootFileError: The path leads to something that is not a regular file, or to too large a one.
        TreePathError: A part of the path is missing or not a directory.
    """
    found = find_node(filesystem.root, path)
    if found is None:
        return None
    node, real_path = found
    if isinstance(node, Directory):
        raise BootFileError(f"{_show(path)} is a directory; expected a regular file")
    return read_leaf(node, real_path, reader)


def read_leaf(node: Leaf, path: bytes, reader: ContentReader, limit: int = MAX_TEXT_BYTES) -> bytes | None:
    """Return the content of a regular file; None if it is sparse.

    Raises:
        BootFileError: It is not a regular file, or larger than `limit` bytes.
    """
    if isinstance(node, SparseFile):
        return None
    if isinstance(node, InlineFile):
        return node.data
    if not isinstance(node, ExternalFile):
        raise BootFileError(f"{_show(path)} is not a regular file")
    if node.size > limit:
        raise BootFileError(f"{_show(path)} has {node.size} bytes; expected {limit} at most")
    return reader(path, node)


def _show(path: bytes) -> str:
    return path.decode("utf-8", "backslashreplace")


__all__ = ["BootFileError", "ContentReader", "TreePathError", "read_file", "read_leaf"]
