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
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.oci.import_layer import WORTH_A_THREAD_BYTES, LayerImporter, WantedLayer
from cfsctl.oci.source import ResumableSource
from cfsctl.oci.store.layer_writer import ImportCounts, ImportedLayer
from cfsctl.oci.store.names import LAYER
from cfsctl.oci.store.partial_blobs import forget_partial
from cfsctl.oci.tar_diff.format import MEDIA_TYPE as TAR_DIFF
from cfsctl.oci.transfer_progress import TransferProgress
from cfsctl.progress import Skipped
from cfsctl.repository.objects.sharing import Sharing
from cfsctl.repository.objects.space import needing
from cfsctl.splitstream.format import ContentType
from cfsctl.workers import BackgroundCall, WorkerPool, default_worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.source import ImageSource
    from cfsctl.oci.tar_diff.decode import SourceFiles
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_POLL_S: Final = 0.25
"""How often progress is checked."""


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
            with needing(lambda _: self._count_bytes(tasks)):
                self._fetch(tasks)
        except (CfsError, OSError):
            with contextlib.suppress(CfsError, OSError):  # the first error is the one to tell
                self._keep_complete()
            raise
        finally:
            self._end_flush()

    def _count_bytes(self, tasks: Iterable[WantedLayer]) -> int:
        """Return the size of layers that are not stored yet, as they come: unpacked they are larger."""
        return sum(task.descriptor.size for task in tasks if task.digest not in self.streams)

    def _fetch(self, tasks: list[WantedLayer]) -> None:
        count = min(len(tasks), self._workers)
        progress = TransferProgress(
            [(_progress_id(task), task.descriptor.size) for task in tasks], self._report
        )
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
        is_small = sum(task.descriptor.size for task in tasks) < WORTH_A_THREAD_BYTES
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
