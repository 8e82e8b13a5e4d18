"""Write a splitstream into an object store.

The result depends on nothing but the calls: consecutive inline writes become one chunk, objects are
numbered in the order in which they are first named. Memory is bounded by the tables; the compressed
stream, which the tables precede, and inline runs of unknown length wait in temporary files once they
are large.
"""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Final, Protocol

from cfsctl.splitstream.compression import start_compression
from cfsctl.splitstream.format import CHUNK, HEADER, INFO, Info, Range, format_header, format_info

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import Algorithm, ObjectID

_SPOOL_MEMORY_BYTES: Final = 4 << 20
"""What waits in memory; more of it goes to a temporary file."""

_COPY_BYTES: Final = 1 << 18


class StoredObject(Protocol):
    """What a store says about an object it has taken."""

    @property
    def object_id(self) -> ObjectID: ...  # noqa: D102 - named after what it is


class ObjectWriter(Protocol):
    """Takes the bytes of one object."""

    def write(self, data: bytes, /) -> object: ...  # noqa: D102 - the verbs of a store, see `ObjectSink`
    def commit(self) -> StoredObject: ...  # noqa: D102
    def abort(self) -> None: ...  # noqa: D102


class ObjectSink(Protocol):
    """The part of an object store that a writer needs."""

    def create(self) -> ObjectWriter:
        """Start a new object; it exists once its writer has committed it."""


class _Spool:
    """Bytes that wait: in memory while they are few, else in a temporary file."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []
        self._file: IO[bytes] | None = None
        self.size = 0

    def write(self, data: bytes) -> None:
        self.size += len(data)
        if self._file is None:
            self._pieces.append(data)
            if self.size <= _SPOOL_MEMORY_BYTES:
                return
            import tempfile  # noqa: PLC0415 - seldom needed

            self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by clear()
            self._file.writelines(self._pieces)
            self._pieces.clear()
        else:
            self._file.write(data)

    def drain(self, write: _Write) -> None:
        """Pass everything on and start anew."""
        for piece in self._pieces:
            write(piece)
        if self._file is not None:
            self._file.seek(0)
            while data := self._file.read(_COPY_BYTES):
                write(data)
        self.clear()

    def clear(self) -> None:
        self._pieces.clear()
        self.size = 0
        if self._file is not None:
            self._file.close()
            self._file = None


class _Write(Protocol):
    def __call__(self, data: bytes, /) -> object: ...


class SplitstreamWriter:
    """Collects a stream and its references, then stores it.

    A context manager: leaving it without `finish` drops everything.
    """

    def __init__(self, store: ObjectSink, algorithm: Algorithm, content_type: int) -> None:
        """Start an empty stream.

        Args:
            store: Where the splitstream becomes an object.
            algorithm: Hash algorithm of the store.
            content_type: A `ContentType`, or any other 64-bit number.
        """
        self._store = store
        self._algorithm = algorithm
        self._content_type = content_type
        self._compressor = start_compression()
        self._compressed = _Spool()
        self._run = _Spool()
        self._announced = 0
        self._stream_size = 0
        self._object_refs: dict[ObjectID, int] = {}
        self._stream_refs: dict[ObjectID, int] = {}
        self._named_refs: dict[bytes, int] = {}

    def write_inline(self, data: bytes) -> None:
        """Append bytes; all inline bytes between two external chunks become one chunk."""
        self._stream_size += len(data)
        if self._announced:
            self._announced -= len(data)
            if self._announced < 0:
                raise ValueError(f"{-self._announced} more inline bytes than announced")
            self._compress(data)
        elif data:
            self._run.write(data)

    def begin_inline(self, size_bytes: int) -> None:
        """Announce that exactly `size_bytes` of inline bytes follow, so that none of them has to wait.

        They are a chunk of their own: announce whole runs only.
        """
        self._flush()
        if size_bytes:
            self._compress(CHUNK.pack(-size_bytes))
            self._announced = size_bytes

    def write_external(self, object_id: ObjectID, size_bytes: int) -> None:
        """Append the content of an object that is in the store already."""
        self._flush()
        self._stream_size += size_bytes
        self._compress(CHUNK.pack(self.add_object_ref(object_id)))

    def add_object_ref(self, object_id: ObjectID) -> int:
        """Keep an object alive without making it part of the stream.

        Returns:
            Its index in the table of objects.
        """
        return self._object_refs.setdefault(object_id, len(self._object_refs))

    def add_named_ref(self, name: str, object_id: ObjectID) -> None:
        """Keep another stream or object alive, under a name; a second use of the name replaces the first.

        Raises:
            ValueError: The name is empty or has a NUL in it.
        """
        if not name or "\0" in name:
            raise ValueError(f"named reference: expected a name without NUL, found {name!r}")
        index = self._stream_refs.setdefault(object_id, len(self._stream_refs))
        self._named_refs[name.encode()] = index

    def finish(self) -> StoredObject:
        """Store the splitstream.

        Returns:
            What the store says about the object.
        """
        self._flush()
        self._compressed.write(self._compressor.flush())
        named_refs = self._format_named_refs()
        writer = self._store.create()
        try:
            writer.write(format_header(self._algorithm))
            writer.write(format_info(self._layout(len(named_refs))))
            writer.write(b"".join(self._stream_refs))
            writer.write(b"".join(self._object_refs))
            writer.write(named_refs)
            self._compressed.drain(writer.write)
            return writer.commit()
        except BaseException:
            writer.abort()
            raise

    def close(self) -> None:
        """Drop everything that is not stored."""
        self._run.clear()
        self._compressed.clear()

    def __enter__(self) -> Self:
        """Return the writer."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Drop everything that is not stored."""
        self.close()

    def _layout(self, named_refs_size: int) -> Info:
        """Return where the sections go: one behind the other."""
        digest_size = self._algorithm.digest_size
        sizes = (
            len(self._stream_refs) * digest_size,
            len(self._object_refs) * digest_size,
            named_refs_size,
            self._compressed.size,
        )
        ranges = []
        start = HEADER.size + INFO.size
        for size in sizes:
            ranges.append(Range(start, start + size))
            start += size
        stream_refs, object_refs, named_refs, stream = ranges
        return Info(stream_refs, object_refs, stream, named_refs, self._content_type, self._stream_size)

    def _format_named_refs(self) -> bytes:
        compressor = start_compression()
        text = b"".join(b"%d:%s\0" % (index, name) for name, index in sorted(self._named_refs.items()))
        return compressor.compress(text) + compressor.flush()

    def _flush(self) -> None:
        """End the inline chunk."""
        if self._announced:
            raise ValueError(f"{self._announced} fewer inline bytes than announced")
        if self._run.size:
            self._compress(CHUNK.pack(-self._run.size))
            self._run.drain(self._compress)

    def _compress(self, data: bytes) -> None:
        if compressed := self._compressor.compress(data):
            self._compressed.write(compressed)
