"""Dumps read into trees.

Input is taken as bytes and in pieces, so that names need not be text and a dump need not be in memory.
Nearly all lines of a usual dump are of external files and look alike; they have a fast way through, and
anything that it does not know at sight goes through `LineParser`, which knows everything.

Both dialects are stricter than their originals where the original takes what is surely a mistake: signs
and blanks in numbers, a root that is no directory or comes twice, a path that comes twice, content whose
length is not SIZE. Both are more lenient in names, which may be any bytes, in times before 1970, and in
hard links, which may refer to later lines.
"""

from __future__ import annotations

from binascii import Error as HexError
from binascii import hexlify, unhexlify
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.dumpfile.format import MAX_LINE, MAX_NAME, MAX_PATH, DumpfileError
from cfsctl.dumpfile.lines import LineParser
from cfsctl.tree.bulk import paused_collector
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.model import NO_XATTRS, ExternalFile

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Protocol

    from cfsctl.digest import Algorithm
    from cfsctl.tree.model import Directory, FileSystem, Leaf

    class ByteStream(Protocol):
        """What a dump is read from."""

        def read(self, size: int, /) -> bytes:
            """Return up to `size` bytes; none at the end."""


_CHUNK: Final = 1 << 20
"""Bytes that are read at once."""

_DOTS: Final = frozenset((b".", b".."))
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
    with paused_collector():
        reader = _Reader(algorithm, dialect, strict=strict)
        for lines in _iter_lines(stream, must_end=strict and dialect is Dialect.C):
            reader.feed(lines)
        return reader.finish()


def _iter_lines(stream: ByteStream, *, must_end: bool) -> Iterator[list[bytes]]:
    """Cut the stream into lines.

    Yields:
        Some lines at a time, without their ends.
    """
    rest = b""
    number = 1
    while chunk := stream.read(_CHUNK):
        if b"\0" in chunk:
            number += chunk.count(b"\n", 0, chunk.index(b"\0"))
            raise DumpfileError("a NUL; it has to be written as an escape", line=number)
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop()
        number += len(lines)
        if len(rest) > MAX_LINE:
            raise DumpfileError(f"longer than {MAX_LINE} bytes", line=number)
        yield lines
    if rest:
        if must_end:
            raise DumpfileError("the last line does not end", line=number)
        yield [rest]


class _Reader:
    """The tree so far."""

    def __init__(self, algorithm: Algorithm, dialect: Dialect, *, strict: bool) -> None:
        self._parser = LineParser(algorithm, dialect, strict=strict)
        self._dialect = dialect
        self._number = 0
        self._hex_size = 2 * algorithm.digest_size
        self._path_split = algorithm.digest_size - 1

    def feed(self, lines: list[bytes]) -> None:
        """Take some lines.

        Raises:
            DumpfileError: One of them is wrong.
        """
        parser = self._parser
        find_directory, find_mode = parser.directories.get, parser.regular_modes.get
        find_id, find_time, find_xattrs = parser.ids.get, parser.times.get, parser.xattrs.get
        hex_size, path_split = self._hex_size, self._path_split
        last_parent: bytes | None = None
        entries: dict[bytes, Directory | Leaf] = {}
        for number, line in enumerate(lines, self._number + 1):
            fields = line.split(b" ", 11)
            if len(fields) < 11 or len(fields[10]) != hex_size or b"\\" in fields[0]:
                parser.parse(line, number)
                continue
            path, size, mode_text, nlink, uid_text, gid_text, rdev, time_text, payload, content, digest = (
                fields[:11]
            )
            mode, uid, gid = find_mode(mode_text), find_id(uid_text), find_id(gid_text)
            parent, _, name = path.rpartition(b"/")
            if parent != last_parent:
                directory = find_directory(parent)
                entries = {} if directory is None else directory.entries
                last_parent = None if directory is None else parent
            try:
                object_id = unhexlify(digest)
            except HexError:
                object_id = b""
            if (
                mode is None
                or uid is None
                or gid is None
                or last_parent is None
                or nlink != b"1"
                or rdev != b"0"
                or content != b"-"
                or hexlify(object_id, "/", path_split) != payload
                or name in entries
                or not 0 < len(name) <= MAX_NAME
                or name in _DOTS
                or len(path) > MAX_PATH
                or not size.isdigit()
                or len(size) > _MAX_SIZE_DIGITS
                or size == b"0"
            ):
                parser.parse(line, number)
                last_parent = None
                continue
            time = find_time(time_text) or parser.parse_time(time_text, number)
            xattrs = NO_XATTRS
            if len(fields) == 12:
                xattrs = find_xattrs(fields[11]) or parser.parse_xattrs(fields[11], number)
            entries[name] = ExternalFile(
                ObjectID(object_id), int(size), mode, uid, gid, time[0], time[1], xattrs
            )
        self._number += len(lines)

    def finish(self) -> FileSystem:
        """Return the tree.

        Raises:
            DumpfileError: There is none, or a hard link leads nowhere.
        """
        return self._parser.finish()
