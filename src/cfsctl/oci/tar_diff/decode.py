"""Applying patches of layers; see `cfsctl.oci.tar_diff.format`.

A patch may be hostile: nothing is held but a path, and of operation 5 the open file and a window.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.compression.zstd import ZstdDecoder
from cfsctl.errors import FormatError
from cfsctl.oci.tar_diff.format import (
    ADD,
    COPY,
    DATA,
    FRAME,
    MAGIC_1,
    MAGIC_2,
    MAX_ADD_BYTES,
    MAX_PATH_BYTES,
    MAX_PREFIX_BYTES,
    MAX_WINDOW_BYTES,
    OPEN,
    SEEK,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    import zstandard

_MAX_VARINT_SHIFT: Final = 63
_PIECE_BYTES: Final = 1 << 16
_FEED_BYTES: Final = 512
"""Bytes of a frame unpacked at a time, so that a small one cannot give much at once."""

_EVEN: Final = int.from_bytes(b"\xff\0" * (_PIECE_BYTES // 2), "little")
_ODD: Final = _EVEN << 8


class TarDiffError(FormatError):
    """A patch that is not valid, or does not fit the files that it is to be applied to."""


class SourceFile(Protocol):
    """A file of the image that a patch starts from.

    Attributes:
        size: Its bytes.
    """

    size: int

    def read(self, size: int, offset: int, /) -> bytes:
        """Return bytes from a place; less at the end."""

    def close(self) -> None:
        """Close the file; may be called again."""


class SourceFiles(Protocol):
    """The files of the image that a patch starts from."""

    def open(self, path: bytes, /) -> SourceFile:
        """Open a regular file.

        Raises:
            TarDiffError: Nothing has this path.
        """


class TarDiffDecoder:
    """Applies one patch; used as the decoder of a compressed layer is."""

    def __init__(self, files: SourceFiles) -> None:
        """Begin before the magic."""
        self._files = files
        self._head = b""
        self._is_second = False
        self._zstd = ZstdDecoder()
        self._op = -1  # being read, or -1 between two
        self._number = 0
        self._shift = 0
        self._has_number = False
        self._left = 0  # bytes of the operation
        self._path = b""
        self._file: SourceFile | None = None
        self._place = 0
        self._frame: zstandard.ZstdDecompressionObj | None = None

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        """Apply the next bytes of the patch."""
        missing = len(MAGIC_1) - len(self._head)
        if missing:
            self._head += bytes(data[:missing])
            data = data[missing:]
            if len(self._head) == len(MAGIC_1):
                if self._head not in {MAGIC_1, MAGIC_2}:
                    raise TarDiffError(f"Invalid tar-diff header: {self._head!r}")
                self._is_second = self._head == MAGIC_2
        if data:
            for piece in self._zstd.decode(data):
                yield from self._run(memoryview(piece))

    def finish(self) -> None:
        """Record the end of the patch."""
        self.close()
        if len(self._head) < len(MAGIC_1):
            raise TarDiffError(f"Invalid tar-diff header: {self._head!r}")
        self._zstd.finish()
        if self._op >= 0:
            raise TarDiffError(f"unexpected end in operation {self._op}")

    def close(self) -> None:
        """Close the open file."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _run(self, data: memoryview) -> Iterator[bytes | memoryview]:
        """Run operations, of which any number may be in the data, and any part of one."""
        place = 0
        while place < len(data):
            if self._op < 0:
                self._op = data[place]
                place += 1
                self._number = self._shift = 0
                self._has_number = False
                continue
            if not self._has_number:
                is_whole = self._take_number_byte(data[place])
                place += 1
                if is_whole:
                    yield from self._begin()
                continue
            piece = data[place : place + self._left]
            place += len(piece)
            self._left -= len(piece)
            yield from self._take(piece)
            if not self._left:
                self._end()

    def _take_number_byte(self, byte: int) -> bool:
        """Take a byte of the number; return whether that is whole."""
        if self._shift > _MAX_VARINT_SHIFT or (self._shift == _MAX_VARINT_SHIFT and byte > 1):
            raise TarDiffError("uvarint overflow")
        self._number |= (byte & 0x7F) << self._shift
        self._shift += 7
        self._has_number = byte < 0x80
        return self._has_number

    def _begin(self) -> Iterator[bytes | memoryview]:
        """Start an operation whose number is complete; one without bytes is executed at once."""
        op, number = self._op, self._number
        if op == OPEN:
            if number > MAX_PATH_BYTES:
                raise TarDiffError(f"Filename size {number} exceeds limit")
            self._path = b""
        elif op == ADD:
            if number > MAX_ADD_BYTES:
                raise TarDiffError(f"AddData size {number} exceeds limit")
            self._check_left(number)
        elif op == FRAME:
            self._begin_frame()
        elif op == SEEK:
            self._place = number
        elif op == COPY:
            yield from self._copy(number)
        elif op > FRAME:
            raise TarDiffError(f"Unexpected tar-diff op {op}")
        self._left = 0 if op in {SEEK, COPY} else number
        if not self._left:
            self._end()

    def _take(self, piece: memoryview) -> Iterator[bytes | memoryview]:
        """Take bytes of an operation."""
        if self._op == DATA:
            yield piece
        elif self._op == OPEN:
            self._path += bytes(piece)
        elif self._op == ADD:
            for start in range(0, len(piece), _PIECE_BYTES):
                part = bytes(piece[start : start + _PIECE_BYTES])
                yield _add(part, self._read(len(part)))
        else:
            yield from self._unpack(piece)

    def _end(self) -> None:
        """Complete an operation."""
        if self._op == OPEN:
            self.close()
            self._file = self._files.open(self._path)
            self._place = 0
        elif self._op == FRAME:
            self._end_frame()
        self._op = -1

    def _open_file(self) -> SourceFile:
        if self._file is None:
            raise TarDiffError("No current file set in data source")
        return self._file

    def _check_left(self, size: int) -> None:
        """Check before the first of them that so many bytes are left in the open file."""
        left = max(0, self._open_file().size - self._place)
        if size > left:
            raise TarDiffError(f"Short read from data source: expected {size}, got {left}")

    def _read(self, size: int) -> bytes:
        data = self._open_file().read(size, self._place)
        if len(data) != size:
            raise TarDiffError(f"Short read from data source: expected {size}, got {len(data)}")
        self._place += size
        return data

    def _copy(self, size: int) -> Iterator[bytes]:
        self._check_left(size)
        while size:
            data = self._read(min(size, _PIECE_BYTES))
            size -= len(data)
            yield data

    def _begin_frame(self) -> None:
        import zstandard  # few patches have frames

        if not self._is_second:
            raise TarDiffError("ZstdDict op requires a tardf2 delta")
        file = self._open_file()
        if file.size > MAX_PREFIX_BYTES:
            raise TarDiffError(f"Source file too large: {file.size} > {MAX_PREFIX_BYTES}")
        prefix = file.read(file.size, 0)
        raw = zstandard.DICT_TYPE_RAWCONTENT
        dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=raw) if prefix else None
        library = zstandard.ZstdDecompressor(dictionary, max_window_size=MAX_WINDOW_BYTES)
        self._frame = library.decompressobj()

    def _unpack(self, piece: memoryview) -> Iterator[bytes]:
        import zstandard  # see `_begin_frame`

        assert self._frame is not None
        for start in range(0, len(piece), _FEED_BYTES):
            if self._frame.eof:
                return  # as the original: what follows the frame is passed over
            try:
                output = self._frame.decompress(piece[start : start + _FEED_BYTES])
            except zstandard.ZstdError as error:
                raise TarDiffError(f"frame of operation 5: {error}") from error
            if output:
                yield output

    def _end_frame(self) -> None:
        if self._frame is None or not self._frame.eof:
            raise TarDiffError("frame of operation 5: unexpected end")
        self._frame = None
        self._place = self._open_file().size


def _add(data: bytes, other: bytes) -> bytes:
    """Return the sums of bytes, modulo 256; as two large numbers, each with a free byte beside every one."""
    first, second = int.from_bytes(data, "little"), int.from_bytes(other, "little")
    even = ((first & _EVEN) + (second & _EVEN)) & _EVEN
    odd = ((first & _ODD) + (second & _ODD)) & _ODD
    return (even | odd).to_bytes(len(data) + 1, "little")[: len(data)]


class OpenedFile:
    """A file of a repository's store, or in memory.

    Attributes:
        size: Its bytes.
    """

    def __init__(self, content: int | bytes) -> None:
        """Take ownership of a descriptor, or wrap bytes."""
        self._content = content
        self.size = os.fstat(content).st_size if isinstance(content, int) else len(content)

    def read(self, size: int, offset: int, /) -> bytes:
        """Return bytes from a place."""
        if isinstance(self._content, bytes):
            return self._content[offset : offset + size]
        parts = []
        while size and (data := os.pread(self._content, size, offset)):
            parts.append(data)
            size -= len(data)
            offset += len(data)
        return b"".join(parts)

    def close(self) -> None:
        """Close the file."""
        if isinstance(self._content, int):
            os.close(self._content)
        self._content = b""
