"""Store the archive of a layer as a stream, with larger contents as objects."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.fsverity.merkle import READ_SIZE, SmallFiles
from cfsctl.oci.tar import Body, Inline, TarParser
from cfsctl.repository.objects.ingest import ContentIngest
from cfsctl.repository.objects.sharing import FileSharer, How, iter_content
from cfsctl.splitstream.format import ContentType
from cfsctl.splitstream.writer import SplitstreamWriter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType
    from typing import Self

    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.store import ObjectStore, StoredObject

_SIZE_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")

_MAX_WAITING_BYTES: Final = 1 << 16
"""Most bytes between small contents that wait until those are hashed."""

MAX_LAYER_BYTES: Final = 1 << 42
"""Most bytes that a layer may unpack to, 4 TiB: a few kilobytes of zstd can claim any number."""


def _format_size(size: int) -> str:
    """Return a number of bytes as the original prints it: ``800 B``, ``4.22 KiB``."""
    if size < 1024:
        return f"{size} B"
    power = min((size.bit_length() - 1) // 10, len(_SIZE_UNITS))
    return f"{size / 1024**power:.2f} {_SIZE_UNITS[power - 1]}"


class ImportCounts(NamedTuple):
    """What became of the contents of layers.

    Attributes:
        new: Objects that had to be written.
        present: Objects that were there already.
        new_bytes: Sizes of the new ones.
        inline_bytes: Bytes that streams keep.
        reflinked: Of the new objects, those that share their blocks with the file they come from.
        hardlinked: Of the new objects, those that are the file they come from.
        reflinked_bytes: Sizes of the ones that share blocks.
        hardlinked_bytes: Sizes of the ones that are hard links.
    """

    new: int = 0
    present: int = 0
    new_bytes: int = 0
    inline_bytes: int = 0
    reflinked: int = 0
    hardlinked: int = 0
    reflinked_bytes: int = 0
    hardlinked_bytes: int = 0

    @classmethod
    def of(cls, stored: StoredObject, how: How) -> ImportCounts:
        """Return the counts for one object."""
        new = int(stored.is_new)
        reflinked, hardlinked = int(how is How.REFLINKED), int(how is How.HARDLINKED)
        return cls(
            new=new,
            present=1 - new,
            new_bytes=new * stored.size,
            reflinked=reflinked,
            hardlinked=hardlinked,
            reflinked_bytes=reflinked * stored.size,
            hardlinked_bytes=hardlinked * stored.size,
        )

    def describe(self) -> str:
        """Return what became of the contents of layers, as the original prints it."""
        inlined = f"{_format_size(self.inline_bytes)} inlined"
        if not self.reflinked and not self.hardlinked:
            stored = f"{_format_size(self.new_bytes)} stored"
            return f"{self.new} new + {self.present} already present objects; {stored}, {inlined}"
        shared = [
            (self.reflinked, self.reflinked_bytes, "reflinked"),
            (self.hardlinked, self.hardlinked_bytes, "hardlinked"),
        ]
        copied = self.new - self.reflinked - self.hardlinked
        copied_bytes = self.new_bytes - self.reflinked_bytes - self.hardlinked_bytes
        numbers = [f"{number} {how}" for number, _, how in shared if number]
        sizes = [f"{_format_size(size)} {how}" for number, size, how in shared if number]
        objects = " + ".join([*numbers, f"{copied} copied", f"{self.present} already present objects"])
        return f"{objects}; {', '.join([*sizes, f'{_format_size(copied_bytes)} copied', inlined])}"

    def plus(self, other: ImportCounts) -> ImportCounts:
        """Return the sum."""
        return ImportCounts(*(mine + theirs for mine, theirs in zip(self, other, strict=True)))


class ImportedLayer(NamedTuple):
    """A layer that is stored and has no name yet.

    Attributes:
        stream_id: The splitstream object.
        size: Bytes of the layer.
        counts: What became of its contents.
    """

    stream_id: ObjectID
    size: int
    counts: ImportCounts


class LayerWriter:
    """Cuts one archive into a layer stream.

    Small contents are hashed together, which is several times as quick. What follows one of them waits until
    its object is known.

    A context manager: leaving it without `finish` leaves nothing behind but objects that nothing names.
    """

    def __init__(self, objects: ObjectStore, *, may_thread: bool = False) -> None:
        """Begin.

        Args:
            objects: The repository's objects.
            may_thread: Whether a second thread may write large files; pieces must not change then.
        """
        self._objects = objects
        self._may_thread = may_thread
        self._parser = TarParser()
        self._stream = SplitstreamWriter(objects, objects.algorithm, ContentType.OCI_LAYER)
        self._content: ContentIngest | None = None
        self._awaited = 0  # size of the object whose content comes next, until some of it has come
        self._small = SmallFiles(objects.algorithm)
        self._parts: list[memoryview] = []  # of a small content that is not complete
        self._missing = 0  # bytes of that
        self._waiting: list[memoryview | None] = []  # inline data, and None for each of the small contents
        self._waiting_bytes = 0
        self._new = self._present = self._new_bytes = self._inline_bytes = 0
        self._shared: dict[How, int] = {}
        self._shared_bytes: dict[How, int] = {}

    def write(self, data: bytes | memoryview) -> None:
        """Process the next bytes of the archive.

        Raises:
            TarError: They are not valid.
            OSError: Something could not be stored.
        """
        for event in self._parser.feed(data):
            if isinstance(event, Inline):
                self._write_inline(event.data)
            elif isinstance(event, Body):
                self._write_body(event.data)
            elif event.is_external:
                self._awaited = event.size

    def _write_inline(self, data: memoryview) -> None:
        self._inline_bytes += len(data)
        if not self._waiting:
            self._stream.write_inline(data)
            return
        self._waiting.append(data)
        self._waiting_bytes += len(data)
        if self._waiting_bytes > _MAX_WAITING_BYTES:
            self._finish_small()

    def _write_body(self, data: memoryview) -> None:
        if self._missing or 0 < self._awaited <= READ_SIZE:
            self._write_small(data)
            return
        if self._awaited:
            self._finish_small()
            self._content = ContentIngest(self._objects, self._awaited, may_thread=self._may_thread)
            self._awaited = 0
        content = self._content
        assert content is not None
        content.write(data)
        if content.is_complete:
            self._count(content.finish(), How.COPIED)
            self._content = None

    def _write_small(self, data: memoryview) -> None:
        """Take bytes of a content that is hashed with others."""
        if self._awaited:
            self._missing, self._awaited = self._awaited, 0
        self._missing -= len(data)
        if self._missing or self._parts:
            self._parts.append(data)
        if self._missing:
            return
        if self._small.is_full:
            self._finish_small()
        self._small.add(b"".join(self._parts) if self._parts else data)
        self._parts.clear()
        self._waiting.append(None)

    def _finish_small(self) -> None:
        """Store the small contents, and pass on what has waited for them."""
        contents = self._small.contents()
        stored = map(self._objects.ensure_bytes, contents, self._small.finish())
        for data in self._waiting:
            if data is None:
                self._count(next(stored), How.COPIED)
            else:
                self._stream.write_inline(data)
        self._waiting.clear()
        self._waiting_bytes = 0

    def write_file(self, fd: int, size: int, sharer: FileSharer, observe: Callable[[bytes], object]) -> None:
        """Process an open file as the next bytes of the archive.

        Args:
            fd: The file, borrowed.
            size: Bytes that it is to have.
            sharer: What stores it if it is the whole content of an entry.
            observe: Called with the bytes.

        Raises:
            TarError: They are not valid.
            WrongSizeError: It has another size.
            OSError: Something could not be read or stored.
        """
        if self._awaited == size:
            self._finish_small()
            shared = sharer.store(fd, size, observe)
            self._parser.skip_body(size)
            self._awaited = 0
            self._count(shared.stored, shared.how)
            return
        for data in iter_content(fd, size):  # kept inline; or the headers lie, which the digest will show
            observe(data)
            self.write(data)

    def _count(self, stored: StoredObject, how: How) -> None:
        self._stream.write_external(stored.object_id, stored.size)
        if not stored.is_new:
            self._present += 1
            return
        self._new += 1
        self._new_bytes += stored.size
        if how is not How.COPIED:
            self._shared[how] = self._shared.get(how, 0) + 1
            self._shared_bytes[how] = self._shared_bytes.get(how, 0) + stored.size

    def finish(self) -> ImportedLayer:
        """Store the stream, after the last byte; naming it is the caller's.

        Raises:
            TarError: The archive is not complete.
            OSError: The stream is not in the store then.
        """
        with self:
            self._parser.finish()
            self._finish_small()
            size = self._stream.stream_size
            counts = ImportCounts(
                new=self._new,
                present=self._present,
                new_bytes=self._new_bytes,
                inline_bytes=self._inline_bytes,
                reflinked=self._shared.get(How.REFLINKED, 0),
                hardlinked=self._shared.get(How.HARDLINKED, 0),
                reflinked_bytes=self._shared_bytes.get(How.REFLINKED, 0),
                hardlinked_bytes=self._shared_bytes.get(How.HARDLINKED, 0),
            )
            return ImportedLayer(self._stream.finish(), size, counts)

    def abort(self) -> None:
        """Release everything; may be called again and after `finish`."""
        if self._content is not None:
            self._content.abort()
            self._content = None
        self._stream.abort()

    def __enter__(self) -> Self:
        """Return the writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Release what was not finished."""
        self.abort()


def import_tar(
    objects: ObjectStore, pieces: Iterable[bytes | memoryview], *, may_thread: bool = False
) -> ImportedLayer:
    """Store an archive that comes in pieces as a layer stream; see `LayerWriter`."""
    with LayerWriter(objects, may_thread=may_thread) as writer:
        for piece in pieces:
            writer.write(piece)
        return writer.finish()
