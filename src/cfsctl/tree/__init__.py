"""File system trees in memory: the model shared by scan, dumpfile, images and OSTree commits."""

from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Node,
    Socket,
    SparseFile,
    Symlink,
)

__all__ = [
    "BlockDevice",
    "CharDevice",
    "Directory",
    "ExternalFile",
    "Fifo",
    "FileSystem",
    "InlineFile",
    "Leaf",
    "Node",
    "Socket",
    "SparseFile",
    "Symlink",
]
