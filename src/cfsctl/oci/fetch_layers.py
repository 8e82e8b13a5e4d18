"""Fetch and store layers in parallel.

    blob ─▶ digest and size as the manifest says ─▶ unpacked ─▶ digest as the config says
                                                             └▶ cut into objects and a stream

Every layer is one task of a forked worker, the largest first; if there is only one layer, its worker has a
second thread that decompresses ahead. Workers report their progress in shared memory. A layer gets its name
as soon as both digests are verified and its content is on disk, even if others are still being fetched. So it
is not fetched again after a kill.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import Compression, Decoder, limit_output, make_decoder
from cfsctl.errors import CfsError, FormatError, IntegrityError
from cfsctl.oci.context import naming
from cfsctl.oci.local_source import LayerFile, LocalSource
from cfsctl.oci.media_types import FROM_DOCKER, find_compression
from cfsctl.oci.source import FileRange, ResumableSource, SourceError
from cfsctl.oci.store.documents import write_document
from cfsctl.oci.store.layers import MAX_LAYER_BYTES, ImportCounts, ImportedLayer, LayerWriter
from cfsctl.oci.store.names import LAYER
from cfsctl.oci.store.partial_blobs import forget_partial, open_partial
from cfsctl.oci.tar import TarError
from cfsctl.oci.tar_diff.decode import TarDiffDecoder, TarDiffError
from cfsctl.oci.tar_diff.format import MEDIA_TYPE as TAR_DIFF
from cfsctl.progress import Advanced, Done, Skipped, Started, Unit
from cfsctl.repository.objects.ingest import ContentIngest
from cfsctl.repository.objects.sharing import FileSharer, How, Sharing
from cfsctl.splitstream.format import ContentType
from cfsctl.workers import BackgroundCall, BackgroundReader, WorkerPool, default_worker_count
from cfsctl.workers.batches import SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import Hash, OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.source import BlobReader, ImageSource
    from cfsctl.oci.tar_diff.decode import SourceFiles
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import StoredObject

_READ_BYTES: Final = 1 << 17
_POLL_S: Final = 0.25
"""How often progress is checked."""

_WORTH_A_THREAD_BYTES: Final = 1 << 20
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


class LayerFetch:
    """Fetches the layers of one image that are not stored yet.

    Attributes:
        streams: Stream by digest, of all layers that are stored.
        counts: What became of the contents of those that were fetched.
    """

    def __init__(
        self,
        repository: Repository,
        source: ImageSource,
        reporter: Reporter,
        when_idle: Callable[[Mapping[OciDigest, ObjectID]], None] | None = None,
        workers: int | None = None,
        make_files: Callable[[], SourceFiles] | None = None,
        sharing: Sharing = Sharing.DISABLED,
    ) -> None:
        """Fetch nothing yet.

        Args:
            repository: Where layers go.
            source: Where they are.
            reporter: Told how far each layer is.
            when_idle: Called with the layers that are stored while fewer workers are busy than there are
                processors, so that what follows can begin.
            workers: Processes to use; 0 does everything in this one, None is one for each processor.
            make_files: Returns the files that patches start from; called if a patch is to be applied.
            sharing: Whether files are shared with a source that has them.
        """
        self._sharing = sharing
        self._make_files = make_files
        self._workers = default_worker_count() if workers is None else workers
        self._when_idle = when_idle
        self.streams: dict[OciDigest, ObjectID] = {}
        self.counts = ImportCounts()
        self._repository = repository
        self._source = source
        self._report = reporter
        self._unnamed: dict[OciDigest, ObjectID] = {}
        self._blobs: dict[OciDigest, OciDigest] = {}
        self._flush: BackgroundCall | None = None
        self._flushing: dict[OciDigest, ObjectID] = {}

    def run(self, layers: Sequence[WantedLayer]) -> None:
        """Fetch what is not stored.

        Raises:
            ReceivedDigestError: A layer is not what its digests say.
            FormatError: A layer is not valid.
            ImageNotFoundError: The source does not have it.
            OSError: Something could not be read or stored.
        """
        self.streams = find_layers(self._repository, layers)
        missing: dict[OciDigest, WantedLayer] = {}
        for layer in layers:
            if layer.digest in self.streams:
                self._report(Skipped(_progress_id(layer)))
            else:
                missing[layer.digest] = layer
        self._blobs = {layer.digest: layer.descriptor.digest for layer in missing.values()}
        tasks = sorted(missing.values(), key=lambda layer: -layer.descriptor.size)
        if not tasks:
            return
        try:
            self._fetch(tasks)
        except (CfsError, OSError):
            with contextlib.suppress(CfsError, OSError):  # the first error is the one to tell
                self._keep_complete()
            raise
        finally:
            self._end_flush()

    def _fetch(self, tasks: list[WantedLayer]) -> None:
        count = min(len(tasks), self._workers)
        progress = _Progress(tasks, self._report)
        is_alone = count <= 1
        has_patches = any(task.descriptor.media_type == TAR_DIFF for task in tasks)
        files = self._make_files() if has_patches and self._make_files is not None else None

        def make_handler() -> Callable[[int], tuple[int, ImportedLayer]]:
            importer = LayerImporter(
                self._repository, self._source, may_thread=is_alone, files=files, sharing=self._sharing
            )

            def handle(index: int) -> tuple[int, ImportedLayer]:
                return index, importer.run(tasks[index], progress.counter(index))

            return handle

        # Even a single layer is fetched in another process, while this one reports progress.
        is_small = sum(task.descriptor.size for task in tasks) < _WORTH_A_THREAD_BYTES
        with WorkerPool(make_handler, 0 if is_small else count, window=1) as pool:
            for index in range(len(tasks)):
                pool.submit(index)
            while pool.pending:
                for index, imported in pool.poll(_POLL_S):
                    self._take(tasks[index], imported)
                    progress.finish(index)
                progress.tell()
                if pool.pending:  # the last ones are named with the image, behind its barrier
                    self._name_flushed()
                if self._when_idle is not None and pool.pending < count:
                    self._when_idle(self.streams)

    def _take(self, layer: WantedLayer, imported: ImportedLayer) -> None:
        self.counts = self.counts.plus(imported.counts)
        self.streams[layer.digest] = self._unnamed[layer.digest] = imported.stream_id

    # Names for layers that are complete, while others are under way

    def _name_flushed(self) -> None:
        """Name the layers that are on the disk by now, and have the next ones written there."""
        if self._flush is not None and not self._flush.is_done:
            return
        self._end_flush()
        if self._unnamed:
            self._flushing, self._unnamed = self._unnamed, {}
            self._flush = BackgroundCall(self._repository.sync)

    def _keep_complete(self) -> None:
        """Name the layers that are complete, so that the next pull does not fetch them again."""
        self._end_flush()
        if self._unnamed:
            self._repository.sync()
            self._flushing, self._unnamed = self._unnamed, {}
            self._name(self._flushing)

    def _end_flush(self) -> None:
        if self._flush is None:
            return
        flush, self._flush = self._flush, None
        flush.finish()
        self._name(self._flushing)
        self._flushing = {}

    def _name(self, layers: Mapping[OciDigest, ObjectID]) -> None:
        for digest, stream_id in layers.items():
            self._repository.streams.link(f"{LAYER}{digest}", stream_id)
            self._forget(digest)

    def _forget(self, digest: OciDigest) -> None:
        """Remove what may be kept of a blob; its layer is named."""
        if isinstance(self._source, ResumableSource):
            forget_partial(self._repository, self._blobs[digest])

    def finish(self) -> None:
        """Remove what was kept to resume: all layers have their names."""
        for digest in self._blobs:
            self._forget(digest)


def find_layers(repository: Repository, layers: Iterable[WantedLayer]) -> dict[OciDigest, ObjectID]:
    """Return the streams of layers that are stored with all of their objects."""
    found: dict[OciDigest, tuple[ObjectID, Sequence[ObjectID]]] = {}
    for layer in layers:
        stream_id = repository.streams.find(f"{LAYER}{layer.digest}")
        if stream_id is None:
            continue
        content_type = ContentType.OCI_LAYER if layer.is_tar else ContentType.OCI_BLOB
        try:
            with repository.streams.open_object(stream_id, content_type) as reader:
                found[layer.digest] = stream_id, reader.object_refs
        except CfsError:
            continue  # fetched again, which heals it
    everything = set().union(*(refs for _, refs in found.values()))
    missing = set(repository.objects.find_missing(everything))
    return {
        digest: stream_id
        for digest, (stream_id, refs) in found.items()
        if not missing or missing.isdisjoint(refs)
    }


def _progress_id(layer: WantedLayer) -> str:
    return f"layer {layer.descriptor.digest}"


class _Progress:
    """Bytes that workers have read of each layer."""

    def __init__(self, tasks: Sequence[WantedLayer], report: Reporter) -> None:
        self._tasks = tasks
        self._report = report
        self._counters = SharedCounters(len(tasks))
        self._told = [-1] * len(tasks)
        self._is_finished = [False] * len(tasks)

    def counter(self, index: int) -> Callable[[int], None]:
        """Return what notes how many bytes of a layer were read; for workers."""
        return self._counters.writer(index)

    def tell(self) -> None:
        """Report what has changed."""
        for index, task in enumerate(self._tasks):
            done = self._counters.read(index)
            if done > max(0, self._told[index]) and not self._is_finished[index]:
                self._start(index)
                self._told[index] = done
                self._report(Advanced(_progress_id(task), done, task.descriptor.size))

    def _start(self, index: int) -> None:
        """Report that a layer was begun, unless that was reported; a layer that waits has no speed."""
        if self._told[index] < 0:
            self._told[index] = 0
            task = self._tasks[index]
            self._report(Started(_progress_id(task), task.descriptor.size, Unit.BYTES))

    def finish(self, index: int) -> None:
        """Report that a layer is complete."""
        self._start(index)
        self._is_finished[index] = True
        task = self._tasks[index]
        self._report(Done(_progress_id(task), task.descriptor.size))


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
                blob = _CheckedBlob(reader, layer.descriptor, note)
                if isinstance(self._source, LocalSource) and isinstance(reader, FileRange):
                    return self._import_file(blob, reader.take_fd())
                return self._import_tar(layer, blob) if layer.is_tar else self._import_blob(blob)
            finally:
                reader.close()

    def _import_tar(self, layer: WantedLayer, blob: _CheckedBlob) -> ImportedLayer:
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
        """Import a layer of which an earlier pull may have the first part; None if that is of no use."""
        partial = open_partial(self._repository, layer.descriptor)
        if partial is None:
            return None
        with contextlib.closing(partial):
            reader = partial.from_source(lambda offset: source.open_blob_at(layer.descriptor, offset))
            blob = _CheckedBlob(reader, layer.descriptor, note)
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
        """Put an archive together of its files, which may become objects without being copied."""
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
        if self._may_thread and size >= _WORTH_A_THREAD_BYTES:
            return BackgroundReader(pieces)
        return contextlib.nullcontext(pieces)

    def _make_decoder(self, descriptor: Descriptor) -> Decoder:
        """Return what gives the archive of a layer: a decoder, or the patch that it is."""
        if descriptor.media_type == TAR_DIFF and self._files is not None:
            return limit_output(TarDiffDecoder(self._files), MAX_LAYER_BYTES)
        return make_decoder(choose_compression(descriptor), MAX_LAYER_BYTES)

    def _import_blob(self, blob: _CheckedBlob) -> ImportedLayer:
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

    def _import_file(self, blob: _CheckedBlob, fd: int) -> ImportedLayer:
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


class _CheckedBlob:
    """A blob whose size and digest are checked while it is read.

    Attributes:
        descriptor: What it is to be.
    """

    def __init__(self, reader: BlobReader, descriptor: Descriptor, note: Callable[[int], None]) -> None:
        self.descriptor = descriptor
        self._reader = reader
        self._note = note
        self._hash: Hash = descriptor.digest.new_hash()
        self._size = 0

    def __iter__(self) -> Iterator[bytes]:
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
