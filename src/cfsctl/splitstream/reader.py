"""Reading splitstreams, which may be hostile.

`SplitstreamReader` checks header, ranges, references and names when it is made. The stream itself is
unpacked only as it is asked for, in pieces: neither the size of an inline chunk nor the size that the
information claims is ever trusted for an allocation. Whatever the bytes are, `SplitstreamError` is the only
error they cause; the kernel's refusal to read them stays an `OSError`.
"""

from __future__ import annotations

import io
import itertools
import os
import struct
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias, cast, overload

from cfsctl.digest import ObjectID
from cfsctl.splitstream._source import BytesSource, FileSource, iter_unpacked
from cfsctl.splitstream.format import (
    CHUNK,
    HEADER,
    INFO,
    MAX_EMPTY_OBJECTS,
    MAX_NAMED_REFS_BYTES,
    MAX_OBJECT_REFS,
    MAX_STREAM_REFS,
    Range,
    SplitstreamError,
    check_range,
    describe_content_type,
    fail,
    held_limit,
    parse_header,
    parse_info,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm
    from cfsctl.splitstream._source import ByteRange

_LISTED_REFS: Final = 1 << 17
"""IDs that are made at once: of an ordinary tree, all of them are needed."""

_COPY_BYTES: Final = 1 << 20
"""Bytes of an object copied at a time."""


class Inline(NamedTuple):
    """A piece of the stream that is kept in it; one chunk of the file may come as several pieces."""

    data: bytes | memoryview


class External(NamedTuple):
    """The whole content of an object stands here.

    Attributes:
        number: Its place in `SplitstreamReader.object_refs`.
        object_id: Its ID.
    """

    number: int
    object_id: ObjectID


Chunk: TypeAlias = Inline | External


class _References(Sequence[ObjectID]):
    """Many IDs, which are made of the bytes when they are asked for: that takes a third of the memory."""

    __slots__ = ("_data", "_step")

    def __init__(self, data: bytes, step: int) -> None:
        self._data = data
        self._step = step

    def __len__(self) -> int:
        return len(self._data) // self._step

    def __iter__(self) -> Iterator[ObjectID]:
        # By the library alone: there can be a million, and a generator takes three times as long.
        pieces = struct.iter_unpack(f"{self._step}s", self._data)
        return cast("Iterator[ObjectID]", itertools.chain.from_iterable(pieces))

    @overload
    def __getitem__(self, index: int) -> ObjectID: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[ObjectID]: ...
    def __getitem__(self, index: int | slice) -> ObjectID | Sequence[ObjectID]:
        if isinstance(index, slice):
            return list(self)[index]
        place = range(0, len(self._data), self._step)[index]
        return ObjectID(self._data[place : place + self._step])


class SplitstreamReader:
    """A splitstream opened for reading.

    A context manager: leaving it closes the file. May be read several times, also by turns, since the
    position of the file is not used.

    Attributes:
        content_type: Number of the kind of content, see `ContentType`.
        stream_size: Size of the rebuilt stream in bytes, as the file claims.
        stream_refs: IDs of objects kept alive, reachable through `named_refs`.
        object_count: How many objects have a number; see `object_refs`.
        named_refs: Names of `stream_refs`, in the order found; of a name found twice the last counts.
    """

    def __init__(
        self,
        source: int | bytes | bytearray | memoryview,
        algorithm: Algorithm,
        content_type: int | None = None,
        *,
        lists_objects: bool = True,
    ) -> None:
        """Read everything but the stream.

        Args:
            source: A descriptor, which is taken over even if this fails, or the bytes of the file.
            algorithm: The repository's algorithm.
            content_type: What the stream must hold, or None for anything.
            lists_objects: Whether to read `object_refs` now; otherwise that is left until they are asked for.

        Raises:
            SplitstreamError: Not a valid splitstream, or of another content type.
            OSError: As pread(2).
        """
        if isinstance(source, int):
            self._source: ByteRange = _own_file(source)
        else:
            self._source = BytesSource(source)
        try:
            self._read_tables(algorithm, content_type)
            if lists_objects:
                _ = self.object_refs
        except BaseException:
            self._source.close()
            raise

    def _read_tables(self, algorithm: Algorithm, content_type: int | None) -> None:
        source = self._source
        header = source.read(0, min(HEADER.size, source.size))
        info = parse_info(self._read_section(parse_header(header, algorithm), "information", INFO.size))
        if content_type is not None and info.content_type != content_type:
            expected = describe_content_type(content_type)
            fail("content type", expected, describe_content_type(info.content_type))
        self.content_type = info.content_type
        self.stream_size = info.stream_size
        self.stream_refs = self._read_references(
            info.stream_refs, "stream references", algorithm, MAX_STREAM_REFS
        )
        self._step = algorithm.digest_size
        self._check_references(info.object_refs, "object references", self._step, MAX_OBJECT_REFS)
        self._object_refs = info.object_refs
        self.object_count = info.object_refs.size_bytes // self._step
        self._names = self._read_named_refs(info.named_refs)
        self.named_refs: Mapping[str, ObjectID] = {
            name: self.stream_refs[index] for index, name in self._names
        }
        check_range(info.stream, "stream", source.size)
        self._stream = info.stream

    def _read_section(self, section: Range, name: str, limit_bytes: int) -> bytes:
        """Return a section, or as much of its start as the limit allows."""
        check_range(section, name, self._source.size)
        return self._source.read(section.start, min(section.size_bytes, limit_bytes))

    def _read_references(
        self, section: Range, name: str, algorithm: Algorithm, limit: int
    ) -> Sequence[ObjectID]:
        step = algorithm.digest_size
        self._check_references(section, name, step, limit)
        return self._list_references(section.start, section.size_bytes, step)

    def _check_references(self, section: Range, name: str, step: int, limit: int) -> None:
        check_range(section, name, self._source.size)
        size = section.size_bytes
        if size % step or size > limit * step:
            fail(name, f"at most {limit} IDs of {step} bytes", f"{size} bytes", section.start)

    def _list_references(self, start: int, size: int, step: int) -> Sequence[ObjectID]:
        refs = _References(self._source.read(start, size), step)
        return list(refs) if len(refs) <= _LISTED_REFS else refs

    @cached_property
    def object_refs(self) -> Sequence[ObjectID]:
        """IDs of objects, in the order of their numbers; not all need occur in the stream."""
        return self._list_references(self._object_refs.start, self._object_refs.size_bytes, self._step)

    def read_object_refs(self, numbers: slice) -> Sequence[ObjectID]:
        """Return some of `object_refs` without reading the others."""
        first, end, _ = numbers.indices(self.object_count)
        size = max(end - first, 0) * self._step
        return self._list_references(self._object_refs.start + first * self._step, size, self._step)

    def _read_named_refs(self, section: Range) -> list[tuple[int, str]]:
        """Return number and name of each record, in the order found."""
        check_range(section, "named references", self._source.size)
        if section.size_bytes > MAX_NAMED_REFS_BYTES:
            fail("named references", f"at most {MAX_NAMED_REFS_BYTES} bytes", section.size_bytes)
        text = bytearray()
        for piece in iter_unpacked(self._source, section, "named references"):
            text += piece
            if len(text) > MAX_NAMED_REFS_BYTES:
                fail("named references", f"at most {MAX_NAMED_REFS_BYTES} bytes", "more")
        *records, rest = bytes(text).split(b"\0")
        if rest:
            fail("named references", "a NUL at the end", f"{rest[:80]!r}")
        return [_parse_named_ref(record, len(self.stream_refs)) for record in records]

    def close(self) -> None:
        """Close the file; may be called again."""
        self._source.close()

    def __enter__(self) -> Self:
        """Return the reader itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.close()

    def iter_chunks(self) -> Iterator[Chunk]:
        """Yield the stream in order: pieces of inline data, and objects.

        Raises:
            SplitstreamError: Damaged or cut short, a number that no object has, or more inline data than
                the whole stream claims; what came before has been delivered by then.
        """
        pieces = iter_unpacked(self._source, self._stream, "stream")
        refs: Sequence[ObjectID] | None = None  # of a stream without objects, or until one comes, not read
        left = self.stream_size
        objects_left = self.stream_size + MAX_EMPTY_OBJECTS
        buffer = _Buffer(pieces)
        while (number := buffer.take_number()) is not None:
            if number >= 0:
                if number >= self.object_count:
                    fail("chunk", f"the number of one of {self.object_count} objects", number)
                if refs is None:
                    refs = self.object_refs
                objects_left -= 1
                if objects_left < 0:
                    fail("stream", f"{self.stream_size} bytes", "more objects than that")
                yield External(number, refs[number])
            else:
                left += number
                if left < 0:
                    expected = f"inline data within the {self.stream_size} bytes of the stream"
                    fail("chunk", expected, f"{-number} bytes")
                yield from buffer.iter_inline(-number)

    def read_inline(self, limit_bytes: int) -> bytes:
        """Return the content of a stream that has inline data only.

        Raises:
            SplitstreamError: As `iter_chunks`; also if there is an object in the stream, if it is larger
                than `limit_bytes` or than what its compressed form is likely to hold, or not as large as
                it claims.
        """
        limit_bytes = min(limit_bytes, held_limit(self._stream.size_bytes))
        if self.stream_size > limit_bytes:
            fail("stream size", f"at most {limit_bytes} bytes", self.stream_size)
        pieces = io.BytesIO()  # Grows in place; joining a list would hold everything twice.
        for chunk in self.iter_chunks():
            if isinstance(chunk, External):
                fail("chunk", "inline data only", f"object {chunk.object_id.hex()}")
            pieces.write(chunk.data)
        content = pieces.getvalue()
        self._check_total(len(content))
        return content

    def cat(
        self,
        write: Callable[[bytes | memoryview], object],
        open_object: Callable[[ObjectID], int],
    ) -> int:
        """Rebuild the stream.

        Args:
            write: Takes each piece, in order.
            open_object: Returns a descriptor of an object, at its start, which is closed here.

        Returns:
            Size of the stream in bytes.

        Raises:
            SplitstreamError: As `iter_chunks`, or the stream is not as large as it claims; what came
                before has been written by then.
        """
        total = 0
        for chunk in self.iter_chunks():
            if isinstance(chunk, Inline):
                write(chunk.data)
                total += len(chunk.data)
            else:
                total += _copy_object(open_object(chunk.object_id), write)
            if total > self.stream_size:
                break
        self._check_total(total)
        return total

    def check(self, size_of: Callable[[ObjectID], int]) -> None:
        """Unpack the whole stream without keeping any of it, and compare sizes.

        Args:
            size_of: Returns the size in bytes of an object.

        Raises:
            SplitstreamError: As `cat`.
        """
        total = 0
        for chunk in self.iter_chunks():
            total += len(chunk.data) if isinstance(chunk, Inline) else size_of(chunk.object_id)
        self._check_total(total)

    def _check_total(self, total: int) -> None:
        if total != self.stream_size:
            found = f"{total} bytes" if total <= self.stream_size else "more"
            fail("stream size", f"{self.stream_size} bytes in chunks", found)

    def find_irregularities(self) -> list[str]:
        """Return what is odd about the file and does no harm: what a check may warn about."""
        names = [name for _, name in self._names]
        found = []
        if len(set(names)) != len(names):
            found.append("named references: a name occurs twice")
        if names != sorted(names, key=str.encode):
            found.append("named references: not sorted by name")
        if "" in names:
            found.append("named references: an empty name")
        if len({index for index, _ in self._names}) != len(self.stream_refs):
            found.append("stream references: some without a name")
        if self._stream.end != self._source.size:
            found.append(f"{self._source.size - self._stream.end} bytes behind the stream")
        return found


def _own_file(fd: int) -> FileSource:
    try:
        return FileSource(fd)
    except BaseException:
        os.close(fd)
        raise


def _parse_named_ref(record: bytes, count: int) -> tuple[int, str]:
    """Return number and name of one named reference."""
    number, colon, name = record.partition(b":")
    digits = number.removeprefix(b"+")
    significant = digits.lstrip(b"0")
    # 64 bits need 20 digits; the original takes a sign and leading zeros.
    if not colon or not digits.isdigit() or len(significant) > 20:
        fail("named references", "<number>:<name>", f"{record[:80]!r}")
    index = int(significant or b"0")
    if index >= count:
        fail("named references", f"the number of one of {count} stream references", index)
    try:
        return index, name.decode()
    except UnicodeDecodeError as error:
        message = f"splitstream named references: expected a name in UTF-8, found {name[:80]!r}"
        raise SplitstreamError(message, field="named references") from error


def _copy_object(fd: int, write: Callable[[bytes | memoryview], object]) -> int:
    """Write the rest of a file and close it; return its size in bytes."""
    total = 0
    try:
        while data := os.read(fd, _COPY_BYTES):
            write(data)
            total += len(data)
    finally:
        os.close(fd)
    return total


class _Buffer:
    """Turns pieces of any size into numbers and inline data, holding one piece at a time."""

    __slots__ = ("_piece", "_pieces", "_place")

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._piece = b""
        self._place = 0

    def take_number(self) -> int | None:
        """Return the number that a chunk starts with, or None at the end of the stream."""
        place = self._place
        if len(self._piece) - place >= CHUNK.size:
            self._place = place + CHUNK.size
            return int(CHUNK.unpack_from(self._piece, place)[0])
        data = self._piece[place:]
        self._place = len(self._piece)
        while len(data) < CHUNK.size:
            if not self._advance():
                if data:
                    fail("chunk", f"{CHUNK.size} bytes at its start", len(data))
                return None
            self._place = min(CHUNK.size - len(data), len(self._piece))
            data += self._piece[: self._place]
        return int(CHUNK.unpack(data)[0])

    def iter_inline(self, size: int) -> Iterator[Inline]:
        """Yield exactly `size` bytes."""
        while size:
            place = self._place
            if place == len(self._piece):
                if not self._advance():
                    fail("chunk", "inline data to its end", f"{size} bytes missing")
                place = 0
            end = min(place + size, len(self._piece))
            self._place = end
            size -= end - place
            yield Inline(memoryview(self._piece)[place:end])

    def _advance(self) -> bool:
        """Go to the next piece; return whether there is one."""
        self._piece = next(self._pieces, b"")
        self._place = 0
        return bool(self._piece)
