"""Stored layers: find them, and read them as entries or as the original bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import RefNotFoundError
from cfsctl.oci.context import naming
from cfsctl.oci.digest import parse_digest, parse_digest_argument
from cfsctl.oci.store.layer_writer import LayerWriter
from cfsctl.oci.store.names import LAYER, find_short_digest
from cfsctl.oci.tar import Body, Entry, TarError, TarParser
from cfsctl.repository.names.names import check_new_ref
from cfsctl.repository.names.short_ids import parse_short_id
from cfsctl.splitstream.format import ContentType
from cfsctl.splitstream.reader import External

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository
    from cfsctl.splitstream.reader import SplitstreamReader


def iter_entries(
    reader: SplitstreamReader, remarks: list[tuple[bytes, str]] | None = None
) -> Iterator[tuple[Entry, ObjectID | None]]:
    """Yield the entries of a layer stream with the object that is the content, if that is one.

    Args:
        reader: The stream.
        remarks: Gets path and text of what other programs read otherwise.

    Raises:
        TarError: The stream holds no archive, or a file is kept in another way than it should.
        SplitstreamError: It is damaged.
    """
    parser = TarParser()
    if remarks is not None:
        parser.remarks = remarks
    waiting: Entry | None = None
    for chunk in reader.iter_chunks():
        if isinstance(chunk, External):
            if waiting is None:
                raise TarError("Splitstream incorrectly stored a small file, or something else, external")
            parser.skip_body(waiting.size)
            yield waiting, chunk.object_id
            waiting = None
            continue
        for event in parser.feed(chunk.data):
            if isinstance(event, Body):
                size = waiting.size if waiting is not None else 0
                raise TarError(f"Splitstream incorrectly stored a large ({size} byte) file inline")
            if isinstance(event, Entry):
                if event.is_external:
                    waiting = event
                else:
                    yield event, None
        if parser.is_ended:
            return
    parser.finish()


class Content(NamedTuple):
    """The content of a file of a layer.

    Attributes:
        path: Path of the file, as the archive has it.
        object_id: The object that it is.
        size: Its size in bytes.
    """

    path: bytes
    object_id: ObjectID
    size: int


def iter_pieces(reader: SplitstreamReader) -> Iterator[bytes | memoryview | Content]:
    """Yield a layer stream as the pieces that the archive consists of.

    Raises:
        TarError, SplitstreamError: As `iter_entries`.
    """
    parser = TarParser()
    path, size = b"", 0
    for chunk in reader.iter_chunks():
        if isinstance(chunk, External):
            parser.skip_body(size)
            yield Content(path, chunk.object_id, size)
            size = 0
            continue
        yield chunk.data
        if parser.is_ended:
            continue
        for event in parser.feed(chunk.data):
            if isinstance(event, Entry) and event.is_external:
                path, size = event.path, event.size


class LayerNotFoundError(RefNotFoundError):
    """A layer that is not stored."""


class LayerFacts(NamedTuple):
    """What a layer consists of.

    Attributes:
        size: Bytes of the archive.
        entries: Its entries.
        external_objects: Objects that are contents of files, each once.
        external_size: Bytes of the archive that are in them.
    """

    size: int
    entries: int
    external_objects: int
    external_size: int


class StoredLayer(NamedTuple):
    """A layer as it is stored.

    Attributes:
        repository: Where.
        digest: Its digest.
        stream_id: Its splitstream object.
    """

    repository: Repository
    digest: OciDigest
    stream_id: ObjectID

    def cat(self, write: Callable[[bytes | memoryview], object]) -> None:
        """Restore the archive and pass it on.

        Raises:
            SplitstreamError: The stream is damaged, or no archive's.
            IntegrityError: An object is missing, or not what its name says.
        """
        with self.open() as reader:
            reader.cat(write, self.repository.objects.open)

    def open(self) -> SplitstreamReader:
        """Open the stream, which the caller closes."""
        return self.repository.streams.open_object(self.stream_id, ContentType.OCI_LAYER)

    def entries(self) -> Iterator[tuple[Entry, ObjectID | None]]:
        """Yield the entries; see `iter_entries`."""
        with naming(f"layer {self.digest}"), self.open() as reader:
            yield from iter_entries(reader)

    def measure(self) -> LayerFacts:
        """Return what the layer consists of."""
        entries = external_size = 0
        objects: set[ObjectID] = set()
        for entry, object_id in self.entries():
            entries += 1
            if object_id is not None:
                objects.add(object_id)
                external_size += entry.size
        with self.open() as reader:
            return LayerFacts(reader.stream_size, entries, len(objects), external_size)


def find_layer_stream(repository: Repository, text: str) -> ObjectID | None:
    """Return the stream of a layer, or None if it is not stored.

    Raises:
        OciDigestError: The text is not a digest.
    """
    return repository.streams.find(f"{LAYER}{parse_digest(text, 'layer')}")


def open_layer(repository: Repository, text: str) -> StoredLayer:
    """Return a stored layer.

    Args:
        repository: Where it is.
        text: Its digest, or a prefix of it.

    Raises:
        DigestArgumentError: The text is not a digest.
        LayerNotFoundError: It is not stored.
        AmbiguousIdError: It is a prefix of more than one digest.
    """
    short = parse_short_id(text)
    found = None if short is None else find_short_digest(repository, LAYER, short)
    digest = parse_digest_argument(text.removeprefix("@"), "layer") if found is None else found
    stream_id = repository.streams.find(f"{LAYER}{digest}")
    if stream_id is None:
        raise LayerNotFoundError(f"Layer {digest} not found")
    return StoredLayer(repository, digest, stream_id)


def ensure_layer(
    repository: Repository, digest: OciDigest, pieces: Iterable[bytes], ref: str | None = None
) -> ObjectID:
    """Return the stream of a layer, storing it first if it is missing.

    Args:
        repository: Where.
        digest: What the layer must have.
        pieces: The uncompressed archive; not read if the layer is already stored.
        ref: A stream ref to move to it, or None.

    Raises:
        InvalidNameError: The ref cannot be one; nothing was read.
        ReceivedDigestError: It is another layer; it has no name then.
        TarError: It is not an archive.
    """
    if ref is not None:
        ref = check_new_ref(ref)
    name = f"{LAYER}{digest}"
    stream_id = repository.streams.find(name)
    if stream_id is not None:
        if ref is not None:
            repository.streams.set_ref(ref, name)
        return stream_id
    computed = digest.new_hash()
    with LayerWriter(repository.objects) as writer:
        for piece in pieces:
            computed.update(piece)
            writer.write(piece)
        imported = writer.finish()
    digest.check(computed, "layer")
    repository.sync()
    repository.streams.link(name, imported.stream_id, ref)
    return imported.stream_id
