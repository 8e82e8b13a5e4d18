"""Trees made of tar archives, in memory."""

from __future__ import annotations

import stat
import tarfile
from typing import TYPE_CHECKING

from cfsctl.digest import Algorithm
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Symlink,
)

if TYPE_CHECKING:
    import os
    from pathlib import Path

MAX_INLINE_BYTES = 64


class TarTree:
    """The tree of an archive, with the contents of its files by path."""

    def __init__(self, path: Path, below: str = ".", algorithm: Algorithm = Algorithm.SHA256) -> None:
        """Read the members below a directory of the archive."""
        self.contents: dict[bytes, bytes] = {}
        self._algorithm = algorithm
        self.filesystem = FileSystem(Directory(0o755))
        with tarfile.open(path) as archive:
            for member in archive:
                name = f"/{member.name}/".replace("/./", "/").removesuffix("/")
                start = f"/{below}".replace("/.", "")
                if name == start or name.startswith(f"{start}/"):
                    self._add(archive, member, os_bytes(name.removeprefix(start)), start)

    def read(self, path: bytes, node: ExternalFile) -> bytes:
        """Return the content of a file, as `ContentReader` does."""
        assert len(self.contents[path]) == node.size
        return self.contents[path]

    def _add(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes, start: str) -> None:
        if not path:
            self._set_metadata(self.filesystem.root, member)
            return
        parent = self.filesystem.root
        *above, name = path.strip(b"/").split(b"/")
        for part in above:
            child = parent.entries[part]
            assert isinstance(child, Directory)
            parent = child
        if member.islnk():
            parent.entries[name] = self._find(
                os_bytes(f"/{member.linkname}".replace("/./", "/").removeprefix(start))
            )
            return
        parent.entries[name] = self._make(archive, member, path)
        self._set_metadata(parent.entries[name], member)

    def _find(self, path: bytes) -> Leaf:
        node: Directory | Leaf = self.filesystem.root
        for part in path.strip(b"/").split(b"/"):
            assert isinstance(node, Directory)
            node = node.entries[part]
        assert isinstance(node, Leaf)
        return node

    def _make(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: bytes) -> Directory | Leaf:
        if member.isdir():
            return Directory(0)
        if member.issym():
            return Symlink(os_bytes(member.linkname), 0)
        if member.ischr() or member.isblk():
            rdev = member.devmajor << 8 | member.devminor
            return (CharDevice if member.ischr() else BlockDevice)(rdev, 0)
        if member.isfifo():
            return Fifo(0)
        file = archive.extractfile(member)
        assert file is not None
        content = self.contents[path] = file.read()
        if len(content) <= MAX_INLINE_BYTES:
            return InlineFile(content, 0)
        return ExternalFile(compute_digest(content, self._algorithm), len(content), 0)

    def _set_metadata(self, node: Directory | Leaf, member: tarfile.TarInfo) -> None:
        node.mode, node.uid, node.gid = stat.S_IMODE(member.mode), member.uid, member.gid
        node.mtime_s, fraction = divmod(member.mtime, 1)  # type: ignore[assignment]  # whole
        node.mtime_s, node.mtime_ns = int(node.mtime_s), int(fraction * 1_000_000_000)
        prefix = "SCHILY.xattr."
        xattrs = {
            os_bytes(key.removeprefix(prefix)): os_bytes(value)
            for key, value in member.pax_headers.items()
            if key.startswith(prefix)
        }
        if xattrs:
            node.xattrs = xattrs


def os_bytes(text: str | os.PathLike[str]) -> bytes:
    """Return a name as the archive has it."""
    return str(text).encode("utf-8", "surrogateescape")
