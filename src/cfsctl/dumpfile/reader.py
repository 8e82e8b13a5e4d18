"""Dumps read into trees.

Input is taken as bytes and in pieces, so that names need not be text and a dump need not be in memory.
Nearly all lines of a usual dump describe external files and look alike; they are parsed by a fast path.
All other lines go through `LineParser`, which handles everything.

Both dialects are stricter than their originals where the original accepts obvious mistakes: signs
and blanks in numbers, a root that is not a directory or comes twice, a path that comes twice, content whose
length is not SIZE. Both are more lenient in names, which may be any bytes, in times before 1970, and in
hard links, which may refer to later lines.
"""

from __future__ import annotations

from binascii import Error as HexError
from binascii import hexlify, unhexlify
from stat import S_IFDIR, S_IFLNK, S_IFREG
from typing import TYPE_CHECKING, Final

from cfsctl.dumpfile.format import (
    MAX_CONTENT,
    MAX_CONTENT_C,
    MAX_DEPTH,
    MAX_LINE,
    MAX_NAME,
    MAX_PATH,
    MAX_TARGET,
    DumpfileError,
    unescape,
)
from cfsctl.dumpfile.guard import GuardedDump
from cfsctl.dumpfile.lines import LineParser
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import NO_XATTRS, Directory, ExternalFile, InlineFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.digest import Algorithm
    from cfsctl.dumpfile.guard import ByteStream
    from cfsctl.tree.model import FileSystem, Leaf


_CHUNK: Final = 1 << 20
"""Bytes that are read at once."""

_NO_NAMES: Final = frozenset((b"", b".", b".."))
_MAX_SIZE_DIGITS: Final = 15
"""Digits of sizes that need no further check."""


def parse_dump(
    stream: ByteStream, algorithm: Algorithm, dialect: Dialect = Dialect.RUST, *, strict: bool = False
) -> FileSystem:
    """Read a whole dump.

    Args:
        stream: Where it comes from; read to its end.
        algorithm: The hash of the digests in it.
        dialect: Whose rules apply.
        strict: In the C dialect, apply the checks that the C tool has behind ``CFS_PARSE_STRICT``.

    Returns:
        The tree; in the C dialect one that keeps what only the C tools keep.

    Raises:
        DumpfileError: Anything else than a dump of a tree.
        OSError: The stream cannot be read.
    """
    with python_gc_paused(), GuardedDump(stream) as guarded:
        reader = _Reader(algorithm, dialect, strict=strict)
        is_c = dialect is Dialect.C
        for lines in _iter_lines(guarded, keep_cr=is_c, must_end=strict and is_c):
            reader.feed(lines)
        return reader.finish()


def _iter_lines(stream: ByteStream, *, keep_cr: bool, must_end: bool) -> Iterator[list[bytes]]:
    """Cut the stream into lines.

    Args:
        stream: Where they come from.
        keep_cr: Whether a carriage return at the end of a line belongs to the line.
        must_end: Whether the last line has to end like the others.

    Yields:
        Some lines at a time, without their ends.

    Raises:
        DumpfileError: A NUL, a line that is too long, or one that does not end.
    """
    rest = b""
    number = 1
    while chunk := stream.read(_CHUNK):
        nul = chunk.find(b"\0")
        text = rest + (chunk if nul < 0 else chunk[:nul])
        lines = text.split(b"\n")
        rest = lines.pop()
        if not keep_cr and b"\r" in text:
            lines = [line.removesuffix(b"\r") for line in lines]
        # Only the first can have grown over several chunks.
        if lines and len(lines[0]) > MAX_LINE:
            raise DumpfileError(f"longer than {MAX_LINE} bytes", line=number)
        yield lines
        number += len(lines)
        if len(rest) > MAX_LINE:
            raise DumpfileError(f"longer than {MAX_LINE} bytes", line=number)
        if nul >= 0:
            raise DumpfileError("a NUL; it has to be written as an escape", line=number)
    if rest:
        if must_end:
            raise DumpfileError("the last line does not end", line=number)
        yield [rest]


class _Reader:
    """The tree so far."""

    def __init__(self, algorithm: Algorithm, dialect: Dialect, *, strict: bool) -> None:
        self._parser = LineParser(algorithm, dialect, strict=strict)
        self._number = 0
        self._content_limit = MAX_CONTENT_C if dialect is Dialect.C else MAX_CONTENT
        self._hex_size = 2 * algorithm.digest_size
        self._path_split = algorithm.digest_size - 1

    def feed(self, lines: list[bytes]) -> None:  # noqa: C901, PLR0912, PLR0915 - calls would cost more than all of it
        """Take some lines.

        Directories, links and files that look as they usually do are dealt with here, all others by
        the parser. So are all that are wrong, since only there is told what is wrong.

        Raises:
            DumpfileError: One of them is wrong.
        """
        parser = self._parser
        parse, directories = parser.parse, parser.directories
        find_mode, find_id, find_xattrs = parser.modes.get, parser.ids.get, parser.xattrs.get
        hex_size, path_split, content_limit = self._hex_size, self._path_split, self._content_limit
        last_parent = last_time = b"?"
        pairs = b""
        seconds = nanoseconds = 0
        entries: dict[bytes, Directory | Leaf] = {}
        for number, line in enumerate(lines, self._number + 1):
            fields = line.split(b" ", 11)
            xattrs: Mapping[bytes, bytes] | None = NO_XATTRS
            if len(fields) == 12:
                (
                    path,
                    size,
                    mode_text,
                    nlink,
                    uid_text,
                    gid_text,
                    rdev,
                    time,
                    payload,
                    content,
                    digest,
                    pairs,
                ) = fields
                xattrs = find_xattrs(pairs)
            elif len(fields) == 11:
                path, size, mode_text, nlink, uid_text, gid_text, rdev, time, payload, content, digest = (
                    fields
                )
            else:
                parse(line, number)
                continue
            if b"\\" in path:
                try:
                    path = unescape(path)
                except ValueError:
                    path = b""
                if b"\0" in path:
                    path = b""
            known_mode, uid, gid = find_mode(mode_text), find_id(uid_text), find_id(gid_text)
            parent, slash, name = path.rpartition(b"/")
            if parent != last_parent:
                directory = directories.get(parent)
                if directory is None:
                    parse(line, number)
                    continue
                entries = directory.entries
                last_parent = parent
            if (
                known_mode is None
                or uid is None
                or gid is None
                or not slash
                or name in entries
                or name in _NO_NAMES
                or len(name) > MAX_NAME
                or len(path) > MAX_PATH
                or rdev != b"0"
                or not size.isdigit()
                or len(size) > _MAX_SIZE_DIGITS
            ):
                parse(line, number)
                continue
            kind, mode = known_mode
            if nlink != b"1" and (kind != S_IFDIR or not nlink.isdigit() or len(nlink) > 9):
                parse(line, number)
                continue
            if time != last_time:
                second_text, _, nanosecond_text = time.partition(b".")
                if (
                    second_text.isdigit()
                    and nanosecond_text.isdigit()
                    and len(second_text) <= _MAX_SIZE_DIGITS
                    and len(nanosecond_text) < 10
                ):
                    seconds, nanoseconds = int(second_text), int(nanosecond_text)
                else:
                    seconds, nanoseconds = parser.parse_time(time, number)
                last_time = time
            if xattrs is None:
                # Not sooner, so that the first field that is wrong is the one that is told of, and because
                # hard links may have anything here.
                xattrs = parser.parse_xattrs(pairs, number)
            if kind == S_IFREG and len(digest) == hex_size and content == b"-":
                try:
                    object_id = unhexlify(digest)
                except HexError:
                    object_id = b""
                if hexlify(object_id, "/", path_split) == payload and size != b"0":
                    entries[name] = ExternalFile(
                        object_id,  # type: ignore[arg-type]  # an ObjectID; saying so costs time
                        int(size),
                        mode,
                        uid,
                        gid,
                        seconds,
                        nanoseconds,
                        xattrs,
                    )
                    continue
            elif content == b"-" == digest:
                if kind == S_IFDIR and payload == b"-" and path.count(b"/") <= MAX_DEPTH:
                    node = Directory(mode, uid, gid, seconds, nanoseconds, xattrs)
                    entries[name] = directories[path] = node
                    continue
                if (
                    kind == S_IFLNK
                    and payload != b"-"
                    and b"\\" not in payload
                    and 0 < len(payload) == int(size) <= MAX_TARGET
                ):
                    entries[name] = Symlink(payload, mode, uid, gid, seconds, nanoseconds, xattrs)
                    continue
                if kind == S_IFREG and payload == b"-" and size == b"0":
                    entries[name] = InlineFile(b"", mode, uid, gid, seconds, nanoseconds, xattrs)
                    continue
            elif kind == S_IFREG and digest == b"-" == payload:
                try:
                    content = unescape(content)
                except ValueError:
                    content = b""
                if 0 < len(content) == int(size) <= content_limit:
                    entries[name] = InlineFile(content, mode, uid, gid, seconds, nanoseconds, xattrs)
                    continue
            parse(line, number)
        self._number += len(lines)

    def finish(self) -> FileSystem:
        """Return the tree.

        Raises:
            DumpfileError: None exists, or a hard link leads nowhere.
        """
        return self._parser.finish()
