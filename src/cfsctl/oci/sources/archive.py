"""Files in a tar archive, plain or compressed; nothing is unpacked to the disk.

A plain archive is looked through once for names, and read in place. A compressed one has to be unpacked from
its start for each file; small files, which all documents are, are kept from the first time.
"""

from __future__ import annotations

import errno
import os
import posixpath
from typing import TYPE_CHECKING, Final

from cfsctl.compression import Compression, detect_compression, iter_decoded
from cfsctl.oci.context import naming
from cfsctl.oci.source import FileRange, SourceError
from cfsctl.oci.sources.files import open_archive_file
from cfsctl.oci.tar import Body, Entry, TarError, TarParser
from cfsctl.oci.tar.blocks import BLOCK_BYTES
from cfsctl.oci.tar.entry import REGULAR_TYPES, EntryType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.source import BlobReader

MAX_FILES: Final = 1 << 16
"""Most files of an archive; a layout has one for each layer and a few documents."""

_MAX_UNPACKED_BYTES: Final = 1 << 43
_KEPT_BYTES: Final = 1 << 20
_MAX_KEPT_BYTES: Final = 32 << 20
_MAX_LINKS: Final = 8
_READ_BYTES: Final = 1 << 18
_HEAD_BYTES: Final = 6


_LINK_TYPES: Final = frozenset({EntryType.SYMLINK, EntryType.HARD_LINK})


def _clean(path: bytes) -> str:
    """Return a path of the archive without a dot at its beginning."""
    while path.startswith(b"./"):
        path = path[2:].lstrip(b"/")
    return os.fsdecode(path)


class _Found:
    """A file of the archive: where it is, or its content."""

    __slots__ = ("data", "size", "start")

    def __init__(self, start: int, size: int, data: bytes | None) -> None:
        self.start = start
        self.size = size
        self.data = data


class ArchiveFiles:
    """The files of one archive; of two with one name the later counts.

    Attributes:
        path: The archive.
    """

    def __init__(self, path: str) -> None:
        """Open an archive and look through it.

        Raises:
            ImageNotFoundError: None exists.
            SourceError, TarError, CompressionError: It is not valid.
        """
        self.path = path
        self._fd = open_archive_file(path)
        self._files: dict[str, _Found] = {}
        self._links: dict[str, str] = {}
        try:
            self._size = os.fstat(self._fd).st_size
            self._compression = detect_compression(os.pread(self._fd, _HEAD_BYTES, 0))
            with naming(f"image archive {path}"):
                self._scan()
        except BaseException:
            self.close()
            raise

    def _scan(self) -> None:
        if not self._size:
            raise SourceError("expected an archive, found no bytes")
        if self._compression is Compression.NONE:
            self._scan_plain()
        else:
            self._scan_compressed()

    def _scan_plain(self) -> None:
        parser = TarParser()
        # Up to the next block at most, so that the body of a file is never among what is read.
        while not parser.is_ended and (block := self._read_block(parser.offset)):
            for event in parser.feed(block):
                if not isinstance(event, Entry):
                    continue
                if not event.is_external:
                    self._add(event, event.content)
                    continue
                self._add(event, None)
                if parser.offset + event.size > self._size:
                    raise TarError("unexpected EOF reading tar entry", path=event.path, offset=self._size)
                parser.skip_body(event.size)
        parser.finish()

    def _read_block(self, offset: int) -> bytes:
        return os.pread(self._fd, BLOCK_BYTES - offset % BLOCK_BYTES, offset)

    def _scan_compressed(self) -> None:
        parser = TarParser()
        current: _Found | None = None
        parts: list[bytes] = []
        kept_bytes = 0
        for piece in self._iter_plain():
            for event in parser.feed(piece):
                if isinstance(event, Body):
                    if current is not None:
                        parts.append(bytes(event.data))
                        kept_bytes += len(event.data)
                        if sum(map(len, parts)) == current.size:
                            current.data, current, parts = b"".join(parts), None, []
                elif isinstance(event, Entry):
                    found = self._add(event, None if event.is_external else event.content)
                    keeps = event.is_external and event.size <= _KEPT_BYTES
                    current = found if keeps and kept_bytes + event.size <= _MAX_KEPT_BYTES else None
        parser.finish()

    def _add(self, entry: Entry, content: bytes | None) -> _Found | None:
        is_link = entry.type in _LINK_TYPES
        if entry.type not in REGULAR_TYPES and not is_link:
            return None
        if len(self._files) + len(self._links) >= MAX_FILES:
            raise SourceError(f"image archive {self.path}: expected at most {MAX_FILES} files")
        name = _clean(entry.path)
        if is_link:
            # Docker writes a layer that occurs twice as a link from one directory to the other.
            base = posixpath.dirname(name) if entry.type == EntryType.SYMLINK else ""
            self._links[name] = posixpath.normpath(posixpath.join(base, os.fsdecode(entry.link_target)))
            return None
        found = _Found(entry.offset + BLOCK_BYTES, entry.size, content)
        self._files[name] = found
        return found

    def _iter_raw(self) -> Iterator[bytes]:
        place = 0
        while data := os.pread(self._fd, _READ_BYTES, place):
            yield data
            place += len(data)

    def _iter_plain(self) -> Iterator[bytes | memoryview]:
        return iter_decoded(self._iter_raw(), self._compression, _MAX_UNPACKED_BYTES)

    def open(self, name: str) -> BlobReader:
        """Open a file, also by the name of a link to it."""
        for _ in range(_MAX_LINKS):
            if name in self._files or name not in self._links:
                break
            name = self._links[name]
        found = self._files.get(name)
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.path}: {name}")
        if found.data is not None:
            return _Kept(found.data)
        if self._compression is Compression.NONE:
            return FileRange(self._fd, found.start, found.size, owns=False)
        return _Unpacked(self._iter_plain(), found.start, found.size)

    def close(self) -> None:
        """Close the archive."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class _Kept:
    """A file that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._rest = memoryview(data)

    def read(self, size: int, /) -> bytes:
        data, self._rest = bytes(self._rest[:size]), self._rest[size:]
        return data

    def close(self) -> None:
        self._rest = memoryview(b"")


class _Unpacked:
    """A file in a compressed archive, which is unpacked up to it."""

    def __init__(self, pieces: Iterator[bytes | memoryview], start: int, size: int) -> None:
        self.size = size
        self._pieces = pieces
        self._skip = start
        self._left = size
        self._piece = memoryview(b"")

    def read(self, size: int, /) -> bytes:
        while self._left and not self._piece:
            piece = memoryview(next(self._pieces, b""))
            if not piece:
                return b""
            skipped = min(self._skip, len(piece))
            self._skip -= skipped
            self._piece = piece[skipped:][: self._left]
        data, self._piece = bytes(self._piece[:size]), self._piece[size:]
        self._left -= len(data)
        return data

    def close(self) -> None:
        self._left = 0
        self._piece = memoryview(b"")
