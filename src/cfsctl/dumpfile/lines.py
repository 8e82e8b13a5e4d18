"""Lines of a dump, one by one, with every rule that applies to them."""

from __future__ import annotations

import stat
from binascii import Error as HexError
from binascii import unhexlify
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar

from cfsctl.digest import ObjectID
from cfsctl.dumpfile import format as limits
from cfsctl.dumpfile.format import FIELDS, XATTRS_FIELD, DumpfileError, printable, unescape
from cfsctl.dumpfile.links import HardLinks
from cfsctl.tree.dialect import Dialect
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

_TYPES: Final = frozenset(
    (stat.S_IFREG, stat.S_IFDIR, stat.S_IFLNK, stat.S_IFCHR, stat.S_IFBLK, stat.S_IFIFO, stat.S_IFSOCK)
)
_MAX_MEMO: Final = 1 << 16
"""Values of one field that are remembered; more than a tree usually has of them."""

_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1
_MAX_SECONDS: Final = (1 << 63) - 1
_MAX_DIGITS: Final = 32
_MAX_NSEC: Final = 999_999_999

T = TypeVar("T")

Stat = tuple[int, int, int, int, int, "Mapping[bytes, bytes]"]
"""Mode, uid, gid, seconds, nanoseconds and attributes, as constructors of nodes take them."""


class LineParser:
    """Reads lines into a tree.

    The tables remember fields already parsed; the caller may look there first.

    Attributes:
        directories: Directories read so far by unescaped path; root is the empty path.
        modes: File type and permission bits by MODE.
        ids: Numbers by UID or GID.
        xattrs: Attributes by all KEY=VALUE fields of a line.
    """

    def __init__(self, algorithm: Algorithm, dialect: Dialect, *, strict: bool) -> None:
        """Start without a root."""
        self._algorithm = algorithm
        self._is_c = dialect is Dialect.C
        self._strict = strict
        self._number = 0
        self._nlinks: dict[Leaf, int] = {}
        self.directories: dict[bytes, Directory] = {}
        self.modes: dict[bytes, tuple[int, int]] = {}
        self.ids: dict[bytes, int] = {}
        self.xattrs: dict[bytes, Mapping[bytes, bytes]] = {}
        self._links = HardLinks(self.directories)

    def parse(self, line: bytes, number: int) -> None:
        """Take one line.

        Raises:
            DumpfileError: It is wrong.
        """
        self._number = number
        if not self._is_c:
            line = line.removesuffix(b"\r")
            if not line.strip():
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
            DumpfileError: There is none, or a hard link leads nowhere.
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

    def _fail(self, message: str, field: str | None = None) -> NoReturn:
        raise DumpfileError(message, line=self._number, field=field)

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
            self.directories[path] = node

    def _insert_root(self, node: Directory | Leaf) -> None:
        if self.directories:
            self._fail("a second root directory", "PATH")
        if not isinstance(node, Directory):
            self._fail("the root is no directory", "MODE")
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
            self._fail(f"{printable(path)} is there already", "PATH")
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
        _remember(self.modes, fields[2], (stat.S_IFMT(mode), mode & 0o7777))
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
            payload = self._payload(fields[8], limits.MAX_PATH)
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
            self._fail(f"{printable(payload)} is no path of a {self._algorithm.hash_name} object", "PAYLOAD")
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
            self._fail(f"{rdev} is no device number, which has 32 bits", "RDEV")
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
            self._fail("content of something that is no regular file", "CONTENT")
        if fields[10] != b"-":
            self._fail("a digest of something that is no regular file", "DIGEST")

    def _check_rdev(self, rdev: int) -> None:
        if rdev and (self._strict or not self._is_c):
            self._fail(f"{rdev} of something that is no device", "RDEV")

    # Fields

    def _unescape(self, text: bytes, field: str) -> bytes:
        try:
            return unescape(text)
        except ValueError as error:
            raise DumpfileError(str(error), line=self._number, field=field) from error

    def _payload(self, text: bytes, limit: int, *, at_least: int = 1) -> bytes:
        payload = self._unescape(text, "PAYLOAD")
        if not at_least <= len(payload) <= limit:
            self._fail(f"{len(payload)} bytes; expected {at_least} to {limit}", "PAYLOAD")
        if b"\0" in payload:
            self._fail(f"{printable(text)} has a NUL in it", "PAYLOAD")
        return payload

    def _content(self, text: bytes, size: int) -> bytes:
        if text == b"-":
            return b""
        content = self._unescape(text, "CONTENT")
        limit = limits.MAX_CONTENT_C if self._is_c else limits.MAX_CONTENT
        if len(content) > limit:
            self._fail(f"{len(content)} bytes, more than {limit}", "CONTENT")
        if len(content) != size:
            self._fail(f"{len(content)} bytes, but SIZE is {size}", "CONTENT")
        return content

    def _digest(self, text: bytes) -> ObjectID | None:
        if text == b"-" or (self._is_c and not text):
            return None
        try:
            digest = unhexlify(text)
        except HexError as error:
            raise DumpfileError(
                f"{printable(text)} is not hexadecimal: {error}", line=self._number, field="DIGEST"
            ) from error
        if len(digest) != self._algorithm.digest_size:
            self._fail(
                f"expected {2 * self._algorithm.digest_size} hexadecimal digits of "
                f"{self._algorithm.hash_name}, found {len(text)}",
                "DIGEST",
            )
        return ObjectID(digest)

    def _object_in(self, payload: bytes) -> ObjectID | None:
        """Return the object whose path a payload ends in; anything may stand before it."""
        size = self._algorithm.digest_size
        tail = payload[-(2 * size + 1) :]
        if len(tail) != 2 * size + 1 or tail[2:3] != b"/":
            return None
        try:
            return ObjectID(unhexlify(tail[:2] + tail[3:]))
        except HexError:
            return None

    def _integer(self, text: bytes, limit: int, field: str) -> int:
        if not text.isdigit() or len(text) > _MAX_DIGITS or int(text) > limit:
            self._fail(f"expected a decimal number up to {limit}, found {printable(text)}", field)
        return int(text)

    def _id(self, text: bytes, field: str) -> int:
        known = self.ids.get(text)
        if known is None:
            known = self._integer(text, _U32, field)
            _remember(self.ids, text, known)
        return known

    def _mode(self, text: bytes) -> int:
        if not text or text.translate(None, b"01234567") or len(text) > _MAX_DIGITS:
            self._fail(f"expected an octal number, found {printable(text)}", "MODE")
        mode = int(text, 8)
        if mode > _U32 or stat.S_IFMT(mode) not in _TYPES:
            self._fail(f"{printable(text)} has no known file type", "MODE")
        return mode

    def parse_time(self, text: bytes, number: int) -> tuple[int, int]:
        """Return seconds and nanoseconds of MTIME.

        Raises:
            DumpfileError: It is no time.
        """
        self._number = number
        seconds, dot, nanoseconds = text.partition(b".")
        if not dot:
            self._fail(f"expected seconds.nanoseconds, found {printable(text)}", "MTIME")
        sign = -1 if seconds.startswith(b"-") else 1
        return (
            sign * self._integer(seconds.removeprefix(b"-"), _MAX_SECONDS, "MTIME"),
            self._integer(nanoseconds, _MAX_NSEC, "MTIME"),
        )

    def parse_xattrs(self, text: bytes, number: int) -> Mapping[bytes, bytes]:
        """Return the attributes in all KEY=VALUE fields of a line.

        Raises:
            DumpfileError: They are wrong.
        """
        self._number = number
        if self._is_c:
            if len(text) > limits.MAX_XATTR_TEXT_C:
                self._fail(f"{len(text)} bytes, more than {limits.MAX_XATTR_TEXT_C}", XATTRS_FIELD)
        pairs = text.split(b" ")
        if self._is_c and not pairs[-1]:
            pairs.pop()  # the C tool takes a space at the end
        xattrs: dict[bytes, bytes] = {}
        for pair in pairs:
            name, value = self._xattr(pair)
            # Of a repeated name one original keeps the greatest value, the other the last.
            if self._is_c or name not in xattrs or value > xattrs[name]:
                xattrs[name] = value
        self._check_total(xattrs)
        _remember(self.xattrs, text, xattrs)
        return xattrs or NO_XATTRS

    def _xattr(self, pair: bytes) -> tuple[bytes, bytes]:
        name_text, equals, value_text = pair.partition(b"=")
        if not equals:
            self._fail(f"no '=' in {printable(pair)}", XATTRS_FIELD)
        name = self._unescape(name_text, XATTRS_FIELD)
        value = self._unescape(value_text, XATTRS_FIELD)
        if not 0 < len(name) <= limits.MAX_XATTR_NAME or b"\0" in name:
            self._fail(
                f"{printable(name_text)} has {len(name)} bytes; expected 1 to {limits.MAX_XATTR_NAME}, "
                "none of them NUL",
                XATTRS_FIELD,
            )
        if len(value) > limits.MAX_XATTR_VALUE:
            self._fail(
                f"the value of {printable(name_text)} has {len(value)} bytes, more than "
                f"{limits.MAX_XATTR_VALUE}",
                XATTRS_FIELD,
            )
        return name, value

    def _check_total(self, xattrs: Mapping[bytes, bytes]) -> None:
        total = sum(map(len, xattrs))
        limit = limits.MAX_XATTR_NAMES
        if self._is_c:
            total += limits.XATTR_HEADER_COST_C + sum(map(len, xattrs.values()))
            total += limits.XATTR_COST_C * len(xattrs)
            limit = limits.MAX_XATTR_TOTAL_C
        if total > limit:
            self._fail(f"attributes count {total} bytes together, more than {limit}", XATTRS_FIELD)


def _remember(memo: dict[bytes, T], text: bytes, value: T) -> None:
    """Keep what a field stands for, unless so many are kept that memory matters."""
    if len(memo) < _MAX_MEMO:
        memo[text] = value
