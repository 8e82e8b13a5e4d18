"""Import one layer: compare size and digests on the way, unpack it, and cut it into objects and a stream."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import Compression, Decoder, limit_output, make_decoder
from cfsctl.errors import FormatError, IntegrityError
from cfsctl.oci.context import naming
from cfsctl.oci.local_source import LayerFile, LocalSource
from cfsctl.oci.media_types import FROM_DOCKER, find_compression
from cfsctl.oci.source import FileRange, ResumableSource, SourceError
from cfsctl.oci.store.documents import write_document
from cfsctl.oci.store.layer_writer import MAX_LAYER_BYTES, ImportCounts, ImportedLayer, LayerWriter
from cfsctl.oci.store.partial_blobs import open_partial
from cfsctl.oci.tar import TarError
from cfsctl.oci.tar_diff.decode import TarDiffDecoder, TarDiffError
from cfsctl.oci.tar_diff.format import MEDIA_TYPE as TAR_DIFF
from cfsctl.repository.objects.ingest import ContentIngest
from cfsctl.repository.objects.sharing import FileSharer, How, Sharing
from cfsctl.splitstream.format import ContentType
from cfsctl.workers import BackgroundReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

    from cfsctl.oci.digest import Hash, OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.source import BlobReader, ImageSource
    from cfsctl.oci.tar_diff.decode import SourceFiles
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import StoredObject

_READ_BYTES: Final = 1 << 17

WORTH_A_THREAD_BYTES: Final = 1 << 20
"""Bytes of a blob from which on a second thread, or a process, is worth it."""


class WantedLayer(NamedTuple):
    """A layer of an image.

    Attributes:
        descriptor: The blob.
        digest: Digest of the unpacked layer, or of an artifact's blob; names the stream.
        is_tar: Whether it is an archive that is to be cut.
    """

    descriptor: Descriptor
    digest: OciDigest
    is_tar: bool


def choose_compression(descriptor: Descriptor) -> Compression:
    """Return how a tar layer is compressed.

    Raises:
        SourceError: It is not a tar layer.
    """
    media_type = FROM_DOCKER.get(descriptor.media_type, descriptor.media_type)
    compression = find_compression(media_type)
    if compression is None:
        raise SourceError(f"layer {descriptor.digest}: expected a tar layer, found {descriptor.media_type}")
    return compression


class LayerImporter:
    """Imports one layer after the other; lives in a worker."""

    def __init__(
        self,
        repository: Repository,
        source: ImageSource,
        *,
        may_thread: bool,
        files: SourceFiles | None = None,
        sharing: Sharing = Sharing.DISABLED,
    ) -> None:
        """Open nothing yet; `files` are what patches start from."""
        self._sharing = sharing
        self._files = files
        self._repository = repository
        self._source = source
        self._may_thread = may_thread

    def run(self, layer: WantedLayer, note: Callable[[int], None]) -> ImportedLayer:
        """Import a layer.

        Args:
            layer: The layer.
            note: Takes the number of bytes that were read so far.

        Returns:
            The layer, which has no name yet.
        """
        with naming(f"layer {layer.descriptor.digest}"):
            if layer.is_tar and isinstance(self._source, LocalSource):
                return self._import_local(layer, self._source, note)
            if isinstance(self._source, ResumableSource):
                imported = self._resume(layer, self._source, note)
                if imported is not None:
                    return imported
            reader = self._source.open_blob(layer.descriptor)
            try:
                blob = CheckedBlob(reader, layer.descriptor, note)
                if isinstance(self._source, LocalSource) and isinstance(reader, FileRange):
                    return self._import_file(blob, reader.take_fd())
                return self._import_tar(layer, blob) if layer.is_tar else self._import_blob(blob)
            finally:
                reader.close()

    def _import_tar(self, layer: WantedLayer, blob: CheckedBlob) -> ImportedLayer:
        plain = layer.digest.new_hash()
        decoder = self._make_decoder(layer.descriptor)
        with LayerWriter(self._repository.objects, may_thread=self._may_thread) as writer:
            try:
                with self._ahead(_unpack(blob, decoder), blob.descriptor.size) as pieces:
                    for piece in pieces:
                        plain.update(piece)
                        writer.write(piece)
                imported = writer.finish()
            except FormatError as error:
                blob.drain()  # raises if it is the blob that is wrong, which says more
                if isinstance(error, TarError) and layer.descriptor.media_type == TAR_DIFF:
                    raise TarDiffError(
                        f"Layer diff_id mismatch: expected {layer.digest}, found no tar archive: {error}",
                        hint="the delta is damaged, or was made for another image: pull the whole image",
                    ) from error
                raise
        blob.check()
        layer.digest.check(plain, "unpacked layer (diff_id)")
        return imported

    def _resume(
        self, layer: WantedLayer, source: ResumableSource, note: Callable[[int], None]
    ) -> ImportedLayer | None:
        """Import a layer of which an earlier pull may have the first part; None if it cannot be used."""
        partial = open_partial(self._repository, layer.descriptor)
        if partial is None:
            return None
        with contextlib.closing(partial):
            reader = partial.from_source(lambda offset: source.open_blob_at(layer.descriptor, offset))
            blob = CheckedBlob(reader, layer.descriptor, note)
            try:
                return self._import_tar(layer, blob) if layer.is_tar else self._import_blob(blob)
            except (FormatError, IntegrityError):
                partial.discard()
                if not partial.resumed:
                    raise
        return None  # what was kept may be what is wrong

    def _import_local(
        self, layer: WantedLayer, source: LocalSource, note: Callable[[int], None]
    ) -> ImportedLayer:
        """Assemble an archive from its files, which may become objects without being copied."""
        plain = layer.digest.new_hash()
        scale = layer.descriptor.size / max(source.layer_size(layer.digest), 1)
        sharer = FileSharer(self._repository.objects, self._sharing)
        with LayerWriter(self._repository.objects) as writer:
            size = 0
            for part in source.iter_layer(layer.digest):
                if isinstance(part, LayerFile):
                    size += part.size
                    self._write_file(part, writer, sharer, plain)
                else:
                    size += len(part)
                    plain.update(part)
                    writer.write(part)
                if size > MAX_LAYER_BYTES:
                    raise SourceError(f"expected at most {MAX_LAYER_BYTES} bytes")
                note(min(int(size * scale), layer.descriptor.size))
            imported = writer.finish()
        layer.digest.check(plain, "restored layer (diff_id)")
        return imported

    @staticmethod
    def _write_file(part: LayerFile, writer: LayerWriter, sharer: FileSharer, plain: Hash) -> None:
        try:
            with naming(os.fsdecode(part.name)):
                writer.write_file(part.fd, part.size, sharer, plain.update)
        finally:
            os.close(part.fd)

    def _ahead(
        self, pieces: Iterator[bytes | memoryview], size: int
    ) -> AbstractContextManager[Iterable[bytes | memoryview]]:
        """Return pieces that a second thread unpacks ahead, where one layer has all processors."""
        if self._may_thread and size >= WORTH_A_THREAD_BYTES:
            return BackgroundReader(pieces)
        return contextlib.nullcontext(pieces)

    def _make_decoder(self, descriptor: Descriptor) -> Decoder:
        """Return what gives the archive of a layer: a decoder, or the patch that it is."""
        if descriptor.media_type == TAR_DIFF and self._files is not None:
            return limit_output(TarDiffDecoder(self._files), MAX_LAYER_BYTES)
        return make_decoder(choose_compression(descriptor), MAX_LAYER_BYTES)

    def _import_blob(self, blob: CheckedBlob) -> ImportedLayer:
        objects = self._repository.objects
        content = ContentIngest(objects, blob.descriptor.size, may_thread=self._may_thread)
        try:
            for data in blob:
                content.write(data)
            blob.check()
            stored = content.finish()
        finally:
            content.abort()
        return self._describe(stored, How.COPIED)

    def _import_file(self, blob: CheckedBlob, fd: int) -> ImportedLayer:
        """Store a blob that is an open file, which may become the object without being copied."""
        computed = blob.descriptor.digest.new_hash()
        try:
            sharer = FileSharer(self._repository.objects, self._sharing)
            shared = sharer.store(fd, blob.descriptor.size, computed.update)
        finally:
            os.close(fd)
        blob.descriptor.digest.check(computed, "blob")
        return self._describe(shared.stored, shared.how)

    def _describe(self, stored: StoredObject, how: How) -> ImportedLayer:
        stream_id = write_document(self._repository, ContentType.OCI_BLOB, stored, {})
        return ImportedLayer(stream_id, stored.size, ImportCounts.of(stored, how))


def _unpack(blob: Iterable[bytes], decoder: Decoder) -> Iterator[bytes | memoryview]:
    """Yield what a blob holds."""
    for data in blob:
        yield from decoder.decode(data)
    decoder.finish()


class CheckedBlob:
    """A blob whose size and digest are checked while it is read.

    Attributes:
        descriptor: What it is to be.
    """

    def __init__(self, reader: BlobReader, descriptor: Descriptor, note: Callable[[int], None]) -> None:
        """Read nothing yet; `note` takes the number of bytes that were read so far."""
        self.descriptor = descriptor
        self._reader = reader
        self._note = note
        self._hash: Hash = descriptor.digest.new_hash()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
        """Yield the blob in pieces."""
        while data := self._reader.read(_READ_BYTES):
            self._size += len(data)
            if self._size > self.descriptor.size:
                raise SourceError(f"Expected size {self.descriptor.size} but found more")
            self._hash.update(data)
            self._note(self._size)
            yield data

    def drain(self) -> None:
        """Read the rest, and compare as `check` does."""
        for _ in self:
            pass
        self.check()

    def check(self) -> None:
        """Compare size and digest, after the end.

        Raises:
            SourceError: It is too short.
            ReceivedDigestError: It has another digest.
        """
        if self._size != self.descriptor.size:
            raise SourceError(f"Expected size {self.descriptor.size} but found {self._size}")
        self.descriptor.digest.check(self._hash, "blob")
