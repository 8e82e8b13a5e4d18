"""Store the compressed layers of an image as they are, so that a push need not change anything.

They are fetched in parallel and resumed like layers, and each has its name once it is on the disk.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from cfsctl.compression import Compression
from cfsctl.errors import FormatError, IntegrityError
from cfsctl.oci.context import naming
from cfsctl.oci.import_layer import WORTH_A_THREAD_BYTES, CheckedBlob
from cfsctl.oci.media_types import find_compression
from cfsctl.oci.source import ResumableSource
from cfsctl.oci.store.blobs import open_blob
from cfsctl.oci.store.documents import write_document
from cfsctl.oci.store.names import BLOB, BLOB_REF
from cfsctl.oci.store.partial_blobs import forget_partial, open_partial
from cfsctl.oci.transfer_progress import TransferProgress
from cfsctl.repository.objects.ingest import ContentIngest
from cfsctl.splitstream.format import ContentType
from cfsctl.workers import WorkerPool, default_worker_count

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.oci.manifest import Descriptor, Manifest
    from cfsctl.oci.source import ImageSource
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_POLL_S: Final = 0.25
"""How often progress is checked."""


def keep_blobs(
    repository: Repository,
    source: ImageSource,
    manifest: Manifest,
    report: Reporter,
    workers: int | None = None,
) -> dict[str, ObjectID]:
    """Store the blobs of all compressed layers of an image; each has its name once it is on the disk.

    Args:
        repository: Where they go.
        source: Where they are.
        manifest: The image's manifest.
        report: Told how far each blob is.
        workers: Processes to use; 0 for none, None for one per processor.

    Returns:
        Stream by the name under which the manifest's stream is to refer to it.

    Raises:
        ReceivedDigestError: One is not what its digest says.
        SourceError: One has another size.
        OSError: Something could not be read or stored.
    """
    # A layer that is not compressed is reassembled as it was.
    wanted = {
        layer.digest: layer
        for layer in manifest.layers
        if find_compression(layer.media_type) not in {None, Compression.NONE}
    }
    missing = [layer for layer in wanted.values() if not _is_kept(repository, layer)]
    missing.sort(key=lambda layer: -layer.size)
    if missing:
        _fetch_all(repository, source, missing, report, workers)
    kept = {}
    for digest in wanted:
        stream_id = repository.streams.find(f"{BLOB}{digest}")
        assert stream_id is not None
        kept[f"{BLOB_REF}{digest}"] = stream_id
    return kept


def _is_kept(repository: Repository, descriptor: Descriptor) -> bool:
    found = open_blob(repository, descriptor)
    if found is not None:
        found.close()
    return found is not None


def _fetch_all(
    repository: Repository,
    source: ImageSource,
    missing: Sequence[Descriptor],
    report: Reporter,
    workers: int | None,
) -> None:
    progress = TransferProgress([(f"blob {layer.digest}", layer.size) for layer in missing], report)

    def fetch(index: int) -> tuple[int, ObjectID]:
        with naming(f"layer {missing[index].digest}"):
            return index, _fetch(repository, source, missing[index], progress.counter(index))

    is_small = sum(layer.size for layer in missing) < WORTH_A_THREAD_BYTES
    count = min(len(missing), default_worker_count() if workers is None else workers)
    with WorkerPool(lambda: fetch, 0 if is_small else count, window=1) as pool:
        for index in range(len(missing)):
            pool.submit(index)
        while pool.pending:
            done = pool.poll(_POLL_S)
            if done:
                repository.sync()
            for index, stream_id in done:
                repository.streams.link(f"{BLOB}{missing[index].digest}", stream_id)
                forget_partial(repository, missing[index].digest)
                progress.finish(index)
            progress.tell()


def _fetch(
    repository: Repository, source: ImageSource, descriptor: Descriptor, note: Callable[[int], None]
) -> ObjectID:
    """Store a blob, of which an earlier pull may have the first part."""
    partial = open_partial(repository, descriptor) if isinstance(source, ResumableSource) else None
    if partial is not None and isinstance(source, ResumableSource):
        opened = source
        with contextlib.closing(partial):
            reader = partial.from_source(lambda offset: opened.open_blob_at(descriptor, offset))
            try:
                return _store(repository, CheckedBlob(reader, descriptor, note))
            except (FormatError, IntegrityError):
                partial.discard()  # what was kept may be what is wrong
                if not partial.resumed:
                    raise
    with contextlib.closing(source.open_blob(descriptor)) as whole:
        return _store(repository, CheckedBlob(whole, descriptor, note))


def _store(repository: Repository, blob: CheckedBlob) -> ObjectID:
    content = ContentIngest(repository.objects, blob.descriptor.size)
    try:
        for data in blob:
            content.write(data)
        blob.check()
        stored = content.finish()
    finally:
        content.abort()
    return write_document(repository, ContentType.OCI_BLOB, stored, {})
