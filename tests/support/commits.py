"""Commits made object by object, as a commit stream holds them."""

from __future__ import annotations

import hashlib
import stat
from typing import TYPE_CHECKING

from cfsctl.digest import Checksum, ObjectID
from cfsctl.ostree.objects import (
    Commit,
    Dirmeta,
    format_commit,
    format_dirmeta,
    format_dirtree,
    format_regular_header,
    format_zlib_header,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.ostree.objects import Xattrs


def checksum_of(data: bytes) -> Checksum:
    """Return the name of a metadata object."""
    return Checksum(hashlib.sha256(data).digest())


class CommitMaker:
    """Collects the objects of a commit.

    Attributes:
        objects: Data and the ID of external content, by checksum.
    """

    def __init__(self) -> None:
        """Begin with a dirmeta for directories that need none of their own."""
        self.objects: dict[Checksum, tuple[bytes, ObjectID | None]] = {}
        self.plain = self.dirmeta()

    def add(self, data: bytes) -> Checksum:
        """Add a metadata object."""
        checksum = checksum_of(data)
        self.objects[checksum] = (data, None)
        return checksum

    def dirmeta(self, mode: int = 0o755, uid: int = 0, gid: int = 0, xattrs: Xattrs = ()) -> Checksum:
        """Add the metadata of a directory."""
        return self.add(format_dirmeta(Dirmeta(uid, gid, mode | stat.S_IFDIR, xattrs)))

    def dirtree(
        self,
        files: Iterable[tuple[bytes, Checksum]] = (),
        dirs: Iterable[tuple[bytes, Checksum, Checksum]] = (),
    ) -> Checksum:
        """Add a directory."""
        return self.add(format_dirtree(list(files), list(dirs)))

    def file(
        self,
        content: bytes,
        object_id: ObjectID | None = None,
        *,
        mode: int = 0o644,
        owner: tuple[int, int] = (0, 0),
        xattrs: Xattrs = (),
    ) -> Checksum:
        """Add a regular file; with an object ID its content is not in the stream."""
        mode |= stat.S_IFREG
        checksum = checksum_of(format_regular_header(*owner, mode, b"", xattrs) + content)
        header = format_zlib_header(len(content), *owner, mode, b"", xattrs)
        self.objects[checksum] = (header if object_id else header + content, object_id)
        return checksum

    def symlink(self, target: bytes, xattrs: Xattrs = ()) -> Checksum:
        """Add a symbolic link."""
        mode = stat.S_IFLNK | 0o777
        checksum = checksum_of(format_regular_header(0, 0, mode, target, xattrs))
        self.objects[checksum] = (format_zlib_header(0, 0, 0, mode, target, xattrs), None)
        return checksum

    def commit(self, dirtree: Checksum, dirmeta: Checksum | None = None) -> Checksum:
        """Add the commit."""
        return self.add(format_commit(Commit((), None, "subject", "", 1, dirtree, dirmeta or self.plain)))
