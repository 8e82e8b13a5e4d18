"""Write splitstreams: deterministic, and in constant memory for any input.

The same calls give the same bytes, and so the same ID, as long as the zstd library is the same. Inline
data that follow one another become one chunk, whose size stands in front of it: a run that is not
declared (`SplitstreamWriter.begin_inline`) is therefore kept until it ends, in memory while it is short
and in a file without a name when it is not. So is the compressed stream, since the tables stand in front
of that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from cfsctl.splitstream.format import (
    CHUNK,
    COMPRESSION_LEVEL,
    MAX_NAMED_REFS_BYTES,
    MAX_OBJECT_REFS,
    MAX_STREAM_REFS,
    fail,
    format_head,
    held_limit,
    streamed_limit,
)
from cfsctl.splitstream.spool import ObjectSink, ObjectWriter, Spool

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm, ObjectID

__all__ = ["ObjectSink", "ObjectWriter", "SplitstreamWriter"]

_BATCH_BYTES: Final = 1 << 16
"""Bytes gathered before they are compressed; how they are cut has no influence on the result."""


_LARGE_BYTES: Final = 1 << 20
"""Bytes that are taken at once."""


class SplitstreamWriter:
    """A splitstream under construction.

    A context manager: leaving it without `finish` leaves nothing behind.

    Attributes:
        stream_size: Size in bytes of the stream so far, when rebuilt.
    """

    def __init__(
        self, sink: ObjectSink, algorithm: Algorithm, content_type: int, *, is_held: bool = False
    ) -> None:
        """Begin an empty stream.

        Args:
            sink: The repository's objects.
            algorithm: The repository's algorithm.
            content_type: Number of the kind of content, see `ContentType`.
            is_held: Whether readers hold all of it in memory, and so take less of what is well compressed.

        Raises:
            ValueError: The content type does not fit into 64 bits.
        """
        if not 0 <= content_type < 1 << 64:
            raise ValueError(f"content type: expected a number of 64 bits, found {content_type}")
        self.stream_size = 0
        self._inline_size = 0
        self._sink = sink
        self._is_held = is_held
        self._algorithm = algorithm
        self._content_type = content_type
        self._object_refs: dict[ObjectID, int] = {}
        self._stream_refs: dict[ObjectID, int] = {}
        self._named_refs: dict[str, int] = {}
        self._run = Spool(sink)
        self._declared = 0
        self._may_begin = True
        self._is_ended = False
        self._frame = _Frame(sink)

    def write_inline(self, data: bytes | bytearray | memoryview) -> None:
        """Append data to the stream; consecutive calls make one chunk.

        Raises:
            RuntimeError: More than `begin_inline` announced.
            OSError: As write(2), where the data go to a file.
        """
        size = len(data)
        if not size:
            return
        if self._declared:
            if size > self._declared:
                raise RuntimeError(f"{size} bytes of inline data, {self._declared} of the run are left")
            self._declared -= size
            self._frame.write(data)
        elif not self._may_begin and not self._run.size:
            raise RuntimeError("inline data behind a run whose size was declared")
        else:
            self._run.append(data)
        self.stream_size += size
        self._inline_size += size

    def begin_inline(self, size: int) -> None:
        """Announce the size of the whole run of inline data that follows, which then is not kept.

        An object, or the end of the stream, must follow it.

        Args:
            size: Bytes that `write_inline` will bring before anything else; 0 means no run.

        Raises:
            RuntimeError: Inline data was written just before.
        """
        if self._run.size or self._declared or not self._may_begin:
            raise RuntimeError("inline data written just before would be part of the run")
        if size:
            self._frame.write(CHUNK.pack(-size))
            self._declared = size
            self._may_begin = False

    def write_external(self, object_id: ObjectID, size: int) -> None:
        """Append the whole content of an object that is stored already.

        Args:
            object_id: The object's ID.
            size: Its size in bytes.

        Raises:
            RuntimeError: Inline data that `begin_inline` announced is missing.
        """
        self._end_run()
        self._frame.write(CHUNK.pack(self.add_object_ref(object_id)))
        self._may_begin = True
        self.stream_size += size

    def _end_run(self) -> None:
        """Write the inline data that has been waiting."""
        if self._declared:
            raise RuntimeError(f"{self._declared} bytes of inline data that were announced are missing")
        if self._run.size:
            self._frame.write(CHUNK.pack(-self._run.size))
            for piece in self._run.iter_pieces():
                self._frame.write(piece)
            self._run.clear()

    def add_object_ref(self, object_id: ObjectID) -> int:
        """Keep an object alive without putting it into the stream.

        Returns:
            Its number, the same whenever it is added again.
        """
        self._check_id(object_id)
        return self._object_refs.setdefault(object_id, len(self._object_refs))

    def add_object_refs(self, object_ids: Iterable[ObjectID | None]) -> list[int | None]:
        """Keep many objects alive; return the number of each, and None for None."""
        ids = list(object_ids)
        refs = self._object_refs
        new = [one for one in dict.fromkeys(ids) if one is not None and one not in refs]
        if set(map(len, new)) - {self._algorithm.digest_size}:
            for object_id in new:
                self._check_id(object_id)
        refs.update(zip(new, range(len(refs), len(refs) + len(new)), strict=True))
        return list(map(cast("dict[ObjectID | None, int]", refs).get, ids))

    def add_named_ref(self, name: str, object_id: ObjectID) -> None:
        """Keep an object alive under a name; a name added again stands for the later object.

        Raises:
            ValueError: The name is empty, contains a NUL or is not UTF-8.
        """
        if not name or "\0" in name:
            raise ValueError(f"named reference: expected a name without NUL, found {name!r}")
        name.encode()
        self._check_id(object_id)
        self._named_refs[name] = self._stream_refs.setdefault(object_id, len(self._stream_refs))

    def _check_id(self, object_id: ObjectID) -> None:
        if len(object_id) != self._algorithm.digest_size:
            raise ValueError(
                f"object ID: expected {self._algorithm.digest_size} bytes, found {len(object_id)}"
            )

    def finish(self) -> ObjectID:
        """Store the splitstream.

        Nothing can be written afterwards. Making it durable and giving it a name are the caller's.

        Returns:
            The ID of the splitstream object.

        Raises:
            RuntimeError: Inline data that `begin_inline` announced is missing.
            SplitstreamError: More references than a reader takes, or more data that is repeated over and
                over; nothing is stored then.
            OSError: The splitstream is not in the store then.
        """
        with self:
            self.end_stream()
            return self._assemble()

    def end_stream(self) -> None:
        """Complete the stream itself, to which only references can be added then; harmless if repeated.

        Raises:
            RuntimeError, SplitstreamError: As `finish`.
            OSError: As write(2).
        """
        if self._is_ended:
            return
        self._is_ended = True
        self._end_run()
        self._frame.finish()
        size = self._frame.spool.size
        limit = held_limit(size) if self._is_held else streamed_limit(size)
        if self._inline_size > limit:
            fail("stream", f"at most {limit} bytes in {size} compressed ones", self._inline_size)

    def _assemble(self) -> ObjectID:
        for name, refs, limit in (
            ("stream references", self._stream_refs, MAX_STREAM_REFS),
            ("object references", self._object_refs, MAX_OBJECT_REFS),
        ):
            if len(refs) > limit:
                fail(name, f"at most {limit}", len(refs))
        stream_refs = b"".join(self._stream_refs)
        object_refs = b"".join(self._object_refs)
        named_refs = self._compress_names()
        stream = self._frame.spool
        sizes = (len(stream_refs), len(object_refs), len(named_refs), stream.size)
        head = format_head(self._algorithm, self._content_type, self.stream_size, sizes)
        writer = self._sink.create()
        try:
            writer.write(head + stream_refs + object_refs + named_refs)
            for piece in stream.iter_pieces():
                writer.write(piece)
            return writer.commit().object_id
        finally:
            writer.abort()

    def _compress_names(self) -> bytes:
        records = sorted((name.encode(), index) for name, index in self._named_refs.items())
        text = b"".join(b"%d:%s\0" % (index, name) for name, index in records)
        if len(text) > MAX_NAMED_REFS_BYTES:
            fail("named references", f"at most {MAX_NAMED_REFS_BYTES} bytes", len(text))
        frame = _Frame(self._sink)
        try:
            frame.write(text)
            frame.finish()
            return b"".join(frame.spool.iter_pieces())
        finally:
            frame.spool.clear()

    def abort(self) -> None:
        """Forget everything; may be called again and after `finish`."""
        self._run.clear()
        self._frame.spool.clear()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Forget what was not finished."""
        self.abort()


class _Frame:
    """One zstd frame under construction.

    Its bytes are what the original writes: the default level, content size unknown and no checksum.
    A one-shot compression would record the size and choose another window.
    """

    __slots__ = ("_batch", "_compressor", "spool")

    def __init__(self, sink: ObjectSink) -> None:
        import zstandard  # costs more than most commands that never write a stream

        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()
        self._batch = bytearray()
        self.spool = Spool(sink)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append to what the frame holds."""
        if len(data) > _LARGE_BYTES:
            view = memoryview(data)
            for place in range(0, len(view), _LARGE_BYTES):  # each is held twice, and compressed as a whole
                self.write(view[place : place + _LARGE_BYTES])
            return
        self._batch += data
        if len(self._batch) >= _BATCH_BYTES:
            self._emit((self._compressor.compress(self._batch),))
            self._batch.clear()

    def finish(self) -> None:
        """Complete the frame."""
        self._emit((self._compressor.compress(self._batch), self._compressor.flush()))
        self._batch.clear()

    def _emit(self, outputs: Iterable[bytes]) -> None:
        for output in outputs:
            if output:
                self.spool.append(output)
