"""What a dump can say beyond the tree model, and only the C tools keep.

The C `mkcomposefs` writes link counts and payloads as the dump has them, be they wrong or odd, and takes
the line that a hard link points to for the file itself, wherever that is. Trees of this module keep such
things, so that the same image comes out.
"""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from cfsctl.tree.model import NO_XATTRS, Directory, FileSystem, Leaf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import ObjectID


class RedirectedFile(Leaf):
    """A regular file whose content lies at a path that does not follow from its digest.

    Attributes:
        path: Where the content is below the object directories, as the dump has it; empty where the
            image must not say.
        size: Size of the content in bytes.
        digest: fs-verity digest of the content, or None.
    """

    __slots__ = ("digest", "path", "size")
    file_type = stat.S_IFREG

    def __init__(
        self,
        path: bytes,
        size: int,
        digest: ObjectID | None,
        mode: int,
        uid: int = 0,
        gid: int = 0,
        mtime_s: int = 0,
        mtime_ns: int = 0,
        xattrs: Mapping[bytes, bytes] = NO_XATTRS,
    ) -> None:
        """Store content and metadata."""
        super().__init__(mode, uid, gid, mtime_s, mtime_ns, xattrs)
        self.path = path
        self.size = size
        self.digest = digest


class DumpedFileSystem(FileSystem):
    """A tree with the peculiarities of the dump it was read from.

    Attributes:
        nlinks: Link counts of leaves where the dump has another number than the tree has entries.
        originals: Directory and name of the line with the file itself, for leaves with several names.
    """

    __slots__ = ("nlinks", "originals")

    def __init__(
        self,
        root: Directory,
        nlinks: dict[Leaf, int],
        originals: dict[Leaf, tuple[Directory, bytes]],
    ) -> None:
        """Take ownership of the root directory and the tables."""
        super().__init__(root)
        self.nlinks = nlinks
        self.originals = originals
