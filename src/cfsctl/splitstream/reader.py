"""Read a splitstream that anyone may have written.

Every range is compared with the size of the file before it is read, every count with what is left, and
what comes out of the decompressor is bounded by the size that the stream claims to have.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.splitstream.compression import iter_decompressed
from cfsctl.splitstream.format import (
    CHUNK,
    HEADER,
    MAX_NAMED_REFS_BYTES,
    Range,
    SplitstreamError,
    check_range,
    parse_header,
    parse_info,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm

_READ_BYTES: Final = 1 << 18
_MAX_INDEX_DIGITS: Final = 20


class Inline(NamedTuple):
    """A piece of the stream itself; a long chunk comes in several pieces."""

    data: bytes


class External(NamedTuple):
    """The content of an object."""

    object_id: ObjectID


class _Bytes:
    """A splitstream in memory."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, start: int, size: int) -> bytes:
        return self._data[start : start + size]


class _Descriptor:
    """A splitstream in a file."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, start: int, size: int) -> bytes:
        """Return `size` bytes, fewer only where the file ends."""
        pieces = []
        while size:
            piece = os.pread(self._fd, size, start)
            if not piece:
                break
            pieces.append(piece)
            start += len(piece)
            size -= len(piece)
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class SplitstreamReader:
    """An open splitstream.

    Attributes:
        content_type: What the stream contains.
        stream_size: Size of the whole stream in bytes, as the file claims.
        object_refs: Objects that the stream refers to, by index.
        stream_refs: Other streams and objects that it keeps alive, by index.
        named_refs: Those among `stream_refs` that have a name.
    """

    def __init__(
        self,
        source: int | bytes,
        algorithm: Algorithm,
        content_type: int | None = None,
        *,
        closefd: bool = False,
    ) -> None:
        """Read header and tables.

        Args:
            source: The whole file, or a descriptor of it.
            algorithm: Hash algorithm of the repository.
            content_type: What the stream must contain, or None.
            closefd: Take over the descriptor; it is closed with the reader, or when this fails.

        Raises:
            SplitstreamError: No splitstream, a broken one, or one of another algorithm or content type.
        """
        self._fd = source if closefd and isinstance(source, int) else None
        try:
            self._file = _Descriptor(source) if isinstance(source, int) else _Bytes(source)
            self._read_tables(algorithm, content_type)
        except BaseException:
            self.close()
            raise

    def _read_tables(self, algorithm: Algorithm, content_type: int | None) -> None:
        header = self._file.read(0, HEADER.size)
        info = parse_info(self._read(parse_header(header, algorithm), "info"))
        if content_type is not None and info.content_type != content_type:
            raise SplitstreamError(
                f"splitstream: expected content type {content_type:#018x}, found {info.content_type:#018x}",
                field="content_type",
            )
        self.content_type = info.content_type
        self.stream_size = info.stream_size
        self.stream_refs = self._read_digests(info.stream_refs, algorithm, "stream_refs")
        self.object_refs = self._read_digests(info.object_refs, algorithm, "object_refs")
        self.named_refs = self._read_named_refs(info.named_refs)
        check_range(info.stream, self._file.size, "stream")
        self._stream = info.stream

    def _read(self, section: Range, field: str) -> bytes:
        check_range(section, self._file.size, field)
        data = self._file.read(section.start, section.size)
        if len(data) != section.size:
            raise SplitstreamError(
                f"splitstream: section {field}: expected {section.size} bytes, found {len(data)}", field=field
            )
        return data

    def _read_digests(self, section: Range, algorithm: Algorithm, field: str) -> list[ObjectID]:
        size = algorithm.digest_size
        data = self._read(section, field)
        if len(data) % size:
            raise SplitstreamError(
                f"splitstream: section {field}: expected a multiple of {size} bytes, found {len(data)}",
                field=field,
            )
        return [ObjectID(data[i : i + size]) for i in range(0, len(data), size)]

    def _read_named_refs(self, section: Range) -> dict[str, ObjectID]:
        compressed = self._read(section, "named_refs")
        pieces = []
        size = 0
        for piece in iter_decompressed([compressed], "named_refs"):
            size += len(piece)
            if size > MAX_NAMED_REFS_BYTES:
                raise SplitstreamError(
                    f"splitstream: section named_refs: more than {MAX_NAMED_REFS_BYTES} bytes",
                    field="named_refs",
                )
            pieces.append(piece)
        *records, rest = b"".join(pieces).split(b"\0")
        if rest:
            raise _bad_named_ref("expected a NUL at the end", rest)
        return dict(map(self._parse_named_ref, records))

    def _parse_named_ref(self, record: bytes) -> tuple[str, ObjectID]:
        digits, colon, name = record.partition(b":")
        # An optional plus sign and leading zeros are what the original takes, too.
        if not colon or not digits.removeprefix(b"+").isdigit() or len(digits) > _MAX_INDEX_DIGITS:
            raise _bad_named_ref("expected <index>:<name>", record)
        index = int(digits)
        if index >= len(self.stream_refs):
            raise _bad_named_ref(f"expected an index below {len(self.stream_refs)}", record)
        try:
            return name.decode(), self.stream_refs[index]
        except UnicodeDecodeError as error:
            raise _bad_named_ref("expected UTF-8", record) from error

    def iter_chunks(self) -> Iterator[Inline | External]:
        """Yield the stream in order; pieces of one inline chunk follow each other.

        Raises:
            SplitstreamError: The stream is broken, or longer than it claims, or it has only inline chunks
                and is shorter than it claims.
        """
        buffered = b""
        left = 0  # bytes of the current inline chunk that are still to come
        inline_size = 0
        external_count = 0
        for piece in self._iter_stream():
            data = buffered + piece if buffered else piece
            position = 0
            while position < len(data):
                if left:
                    taken = data[position : position + left]
                    position += len(taken)
                    left -= len(taken)
                    yield Inline(taken)
                elif len(data) - position < CHUNK.size:
                    break
                else:
                    (number,) = CHUNK.unpack_from(data, position)
                    position += CHUNK.size
                    if number >= 0:
                        external_count += 1
                        self._check_external(external_count)
                        yield External(self._find_object(number))
                    else:
                        left = -number
                        inline_size += left
                        self._check_inline(inline_size)
            buffered = data[position:]
        if left or buffered:
            raise SplitstreamError("splitstream: section stream: ends within a chunk", field="stream")
        if not external_count and inline_size != self.stream_size:
            raise SplitstreamError(
                f"splitstream: expected a stream of {self.stream_size} bytes, found {inline_size}",
                field="stream_size",
            )

    def _find_object(self, index: int) -> ObjectID:
        if index >= len(self.object_refs):
            raise SplitstreamError(
                f"splitstream: section stream: expected an object index below {len(self.object_refs)}, "
                f"found {index}",
                field="stream",
            )
        return self.object_refs[index]

    def _check_inline(self, inline_size: int) -> None:
        if inline_size > self.stream_size:
            raise SplitstreamError(
                f"splitstream: expected at most {self.stream_size} inline bytes, found {inline_size}",
                field="stream",
            )

    def _check_external(self, count: int) -> None:
        # Objects may be empty, so sizes say nothing; this many of them are no stream but a bomb.
        limit = self.stream_size + len(self.object_refs)
        if count > limit:
            raise SplitstreamError(
                f"splitstream: expected at most {limit} external chunks in a stream of {self.stream_size} bytes",
                field="stream",
            )

    def _iter_stream(self) -> Iterator[bytes]:
        return iter_decompressed(self._iter_compressed(), "stream")

    def _iter_compressed(self) -> Iterator[bytes]:
        position = self._stream.start
        while position < self._stream.end:
            data = self._file.read(position, min(_READ_BYTES, self._stream.end - position))
            if not data:
                raise SplitstreamError("splitstream: section stream: the file ended early", field="stream")
            position += len(data)
            yield data

    def read_inline(self) -> bytes:
        """Return the whole stream, which must have no external chunk.

        Raises:
            SplitstreamError: The stream is broken or has an external chunk.
        """
        pieces = []
        for chunk in self.iter_chunks():
            if isinstance(chunk, External):
                raise SplitstreamError(
                    "splitstream: expected inline chunks only, found an external one", field="stream"
                )
            pieces.append(chunk.data)
        return b"".join(pieces)

    def cat(self, write: Callable[[bytes], object], copy_object: Callable[[ObjectID], int]) -> None:
        """Put the stream together again.

        Args:
            write: Takes the next inline bytes.
            copy_object: Copies a whole object to where `write` writes and returns its size in bytes.

        Raises:
            SplitstreamError: The stream is broken, or its parts do not add up to the size it claims. What
                was right before the fault has been written by then.
        """
        size = 0
        for chunk in self.iter_chunks():
            if isinstance(chunk, External):
                size += copy_object(chunk.object_id)
            else:
                write(chunk.data)
                size += len(chunk.data)
        if size != self.stream_size:
            raise SplitstreamError(
                f"splitstream: expected a stream of {self.stream_size} bytes, found {size}",
                field="stream_size",
            )

    def close(self) -> None:
        """Close the descriptor if it was taken over."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def __enter__(self) -> Self:
        """Return the reader."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the descriptor if it was taken over."""
        self.close()


def _bad_named_ref(expected: str, record: bytes) -> SplitstreamError:
    return SplitstreamError(f"splitstream: named reference {record[:80]!r}: {expected}", field="named_refs")
