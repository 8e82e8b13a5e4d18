"""Lines of a dump, one by one, with every rule that applies to them."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING, Final

from cfsctl.dumpfile import format as limits
from cfsctl.dumpfile.fields import FieldParser, remember
from cfsctl.dumpfile.format import FIELDS, DumpfileError, printable
from cfsctl.dumpfile.links import HardLinks
from cfsctl.tree.dumped import DumpedFileSystem, RedirectedFile
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm
    from cfsctl.tree.dialect import Dialect

_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1

Stat = tuple[int, int, int, int, int, "Mapping[bytes, bytes]"]
"""Mode, uid, gid, seconds, nanoseconds and attributes, as constructors of nodes take them."""


class LineParser(FieldParser):
    """Reads lines into a tree.

    Attributes:
        directories: Directories read so far by unescaped path; root is the empty path.
    """

    def __init__(self, algorithm: Algorithm, dialect: Dialect, *, strict: bool) -> None:
        """Start without a root."""
        super().__init__(algorithm, dialect)
        self._strict = strict
        self._nlinks: dict[Leaf, int] = {}
        self.directories: dict[bytes, Directory] = {}
        self._links = HardLinks(self.directories)

    def parse(self, line: bytes, number: int) -> None:
        """Take one line.

        Raises:
            DumpfileError: It is wrong.
        """
        self._number = number
        if not self._is_c and not line.strip():
            return
        fields = line.split(b" ", len(FIELDS))
        path = self._path(fields[0], "PATH")
        is_link = len(fields) > 2 and b"@" in fields[2][:1]
        self._fill_up(fields, is_link=is_link)
        mode = self._mode(fields[2][is_link:])
        if is_link:
            self._parse_link(path, fields, mode)
            return
        node, nlink = self._node(fields, mode)
        self._insert(path, node)
        if self._is_c and isinstance(node, Leaf) and nlink != 1:
            self._nlinks[node] = nlink

    def finish(self) -> FileSystem:
        """Return the tree.

        Raises:
            DumpfileError: None exists, or a hard link leads nowhere.
        """
        root = self.directories.get(b"")
        if root is None:
            raise DumpfileError("empty; expected a line for the root directory")
        links = self._links
        links.resolve()
        if not self._is_c:
            return FileSystem(root)
        nlinks = {leaf: 1 for leaf in links.counts if leaf not in self._nlinks}
        nlinks |= {leaf: n for leaf, n in self._nlinks.items() if n != links.counts.get(leaf, 1)}
        return DumpedFileSystem(root, nlinks, links.originals)

    def _fill_up(self, fields: list[bytes], *, is_link: bool) -> None:
        """Check that no field is missing, or add those that may be."""
        needed = len(FIELDS) - 3 if self._is_c else len(FIELDS) - 2 * is_link
        if len(fields) < needed:
            self._fail("missing", FIELDS[len(fields)])
        fields += [b""] * (len(FIELDS) - len(fields))

    # Paths

    def _path(self, text: bytes, field: str) -> bytes:
        """Return a path without its needless slashes, and without the first; empty for root.

        The slash in front of a name stays where there is one: ``/a/b`` gives ``/a/b``, ``/`` nothing.
        """
        path = self._unescape(text, field)
        if path == b"/":
            return b""
        if b"\0" in path:
            self._fail(f"{printable(text)} has a NUL in it", field)
        names = path.split(b"/")
        if self._is_c:
            names = [b"", *[name for name in names[:-1] if name], names[-1]]
        elif len(path) > limits.MAX_PATH:
            self._fail(f"{len(path)} bytes, more than {limits.MAX_PATH}", field)
        elif names[0] or len(names) == 1:
            self._fail(f"{printable(text)} does not start with a slash", field)
        for name in names[1:]:
            if name in {b"", b".", b".."}:
                self._fail(f"{printable(text)} has an empty name in it, or a '.' or '..'", field)
        if len(names) - 2 > limits.MAX_DEPTH:
            self._fail(f"{len(names) - 2} directories deep, more than {limits.MAX_DEPTH}", field)
        if len(names[-1]) > limits.MAX_NAME:
            self._fail(f"a name of {len(names[-1])} bytes, more than {limits.MAX_NAME}", field)
        return b"/".join(names)

    def _insert(self, path: bytes, node: Directory | Leaf) -> None:
        if not path:
            self._insert_root(node)
            return
        directory, name = self._place(path)
        directory.entries[name] = node
        if isinstance(node, Directory):
            if path.count(b"/") > limits.MAX_DEPTH:
                self._fail(f"nested deeper than {limits.MAX_DEPTH} directories below the root", "PATH")
            self.directories[path] = node

    def _insert_root(self, node: Directory | Leaf) -> None:
        if self.directories:
            self._fail("a second root directory", "PATH")
        if not isinstance(node, Directory):
            self._fail("the root is not a directory", "MODE")
        self.directories[b""] = node

    def _place(self, path: bytes) -> tuple[Directory, bytes]:
        """Return the directory that a path is to be entered in, and under which name."""
        if not self.directories:
            self._fail(f"{printable(path)} comes before the root directory", "PATH")
        parent, _, name = path.rpartition(b"/")
        directory = self.directories.get(parent)
        if directory is None:
            self._fail(f"{printable(path)} has no parent directory in the lines before", "PATH")
        if name in directory.entries:
            self._fail(f"{printable(path)} already exists", "PATH")
        return directory, name

    def _parse_link(self, path: bytes, fields: list[bytes], mode: int) -> None:
        if stat.S_ISDIR(mode):
            self._fail("a hard link that is a directory", "MODE")
        self._integer(fields[1], _U64, "SIZE")
        if fields[8] == b"-":
            self._fail("missing; expected the path to link to", "PAYLOAD")
        target = self._path(fields[8], "PAYLOAD")
        if not path:
            self._fail("the root is a hard link", "MODE")
        directory, name = self._place(path)
        self._links.add(directory, name, target, self._number)

    # Nodes

    def _node(self, fields: list[bytes], mode: int) -> tuple[Directory | Leaf, int]:
        """Return what a line describes, and its link count."""
        size = self._integer(fields[1], _U64, "SIZE")
        nlink = self._integer(fields[3], _U32, "NLINK")
        uid, gid = self._id(fields[4], "UID"), self._id(fields[5], "GID")
        rdev = self._integer(fields[6], _U64, "RDEV")
        seconds, nanoseconds = self.parse_time(fields[7], self._number)
        xattrs = NO_XATTRS
        if len(fields) > len(FIELDS):
            xattrs = self.xattrs.get(fields[11]) or self.parse_xattrs(fields[11], self._number)
        remember(self.modes, fields[2], (stat.S_IFMT(mode), mode & 0o7777))
        info = (mode & 0o7777, uid, gid, seconds, nanoseconds, xattrs)
        kind = stat.S_IFMT(mode)
        if kind == stat.S_IFREG:
            self._check_rdev(rdev)
            return self._regular(fields, size, info), nlink
        self._check_no_content(fields, size)
        if kind in {stat.S_IFCHR, stat.S_IFBLK}:
            return self._device(kind, rdev, nlink, info), nlink
        self._check_rdev(rdev)
        if kind == stat.S_IFDIR:
            return Directory(*info), nlink
        if kind == stat.S_IFLNK:
            return self._symlink(fields, size, info), nlink
        return (Fifo if kind == stat.S_IFIFO else Socket)(*info), nlink

    def _regular(self, fields: list[bytes], size: int, info: Stat) -> Leaf:
        if size > limits.MAX_FILE_SIZE:
            self._fail(f"{size} bytes, more than {limits.MAX_FILE_SIZE}", "SIZE")
        if self._is_c:
            return self._regular_c(fields, size, info)
        digest = self._digest(fields[10])
        if fields[8] != b"-":
            payload = self._payload(fields[8], limits.MAX_PAYLOAD)
            if digest is not None:
                return ExternalFile(digest, size, *info)
            return self._undigested(payload, size, info)
        if digest is not None:
            self._fail("a digest of a file without payload", "DIGEST")
        content = self._content(fields[9], size)
        if not content and size:
            return SparseFile(size, *info)
        return InlineFile(content, *info)

    def _undigested(self, payload: bytes, size: int, info: Stat) -> ExternalFile:
        object_id = self._object_in(payload)
        if object_id is None:
            self._fail(
                f"{printable(payload)} is not the path of a {self._algorithm.hash_name} object", "PAYLOAD"
            )
        file = ExternalFile(object_id, size, *info)
        file.has_digest = False
        return file

    def _regular_c(self, fields: list[bytes], size: int, info: Stat) -> Leaf:
        """Return a file as the C tool understands it, which keeps payload and digest apart."""
        content = self._content(fields[9], size)
        digest = self._digest(fields[10])
        payload = b"" if fields[8] == b"-" else self._payload(fields[8], limits.MAX_PAYLOAD_C, at_least=0)
        if content or not size:
            return InlineFile(content, *info)
        if digest is None and not payload:
            return SparseFile(size, *info)
        object_id = self._object_in(payload)
        is_usual = object_id is not None and payload == b"%b/%b" % (
            object_id[:1].hex().encode(),
            object_id[1:].hex().encode(),
        )
        if object_id is None or not is_usual or digest not in {None, object_id}:
            return RedirectedFile(payload, size, digest, *info)
        file = ExternalFile(object_id, size, *info)
        file.has_digest = digest is not None
        return file

    def _device(self, kind: int, rdev: int, nlink: int, info: Stat) -> Leaf:
        if rdev > _U32:
            self._fail(f"{rdev} is not a 32-bit device number", "RDEV")
        if kind == stat.S_IFBLK:
            return BlockDevice(rdev, *info)
        if rdev == 0 and nlink > 1 and not self._is_c:
            self._fail(f"{nlink} links of a whiteout; expected one", "NLINK")
        return CharDevice(rdev, *info)

    def _symlink(self, fields: list[bytes], size: int, info: Stat) -> Symlink:
        if fields[8] == b"-":
            self._fail("missing; expected a link target", "PAYLOAD")
        target = self._payload(fields[8], limits.MAX_TARGET)
        if self._strict and self._is_c and size != len(target):
            self._fail(f"{size} for a link target of {len(target)} bytes", "SIZE")
        return Symlink(target, *info)

    def _check_no_content(self, fields: list[bytes], size: int) -> None:
        """Check that only regular files have content; to the C tool it is of no effect."""
        if self._is_c:
            content = self._content(fields[9], size)
            if not (content and self._strict):
                return
        if fields[9] != b"-":
            self._fail("content of something that is not a regular file", "CONTENT")
        if fields[10] != b"-":
            self._fail("a digest of something that is not a regular file", "DIGEST")

    def _check_rdev(self, rdev: int) -> None:
        if rdev and (self._strict or not self._is_c):
            self._fail(f"{rdev} of something that is not a device", "RDEV")
