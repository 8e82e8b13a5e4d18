"""Original blobs of layers, stored in addition to the layers so that an image can be pushed unchanged.

    streams/oci-blob-<digest>    one object: the compressed layer

The stream of the manifest refers to them as ``blob:<digest>``, behind everything else that it refers to.
Other programs keep them as long as they do not write that stream again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.compression import Compression
from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.context import naming
from cfsctl.oci.media_types import find_compression
from cfsctl.oci.source import FileRange, SourceError
from cfsctl.oci.store.documents import find_only_object, write_document
from cfsctl.oci.store.names import BLOB, BLOB_REF, MANIFEST
from cfsctl.progress import Advanced, Done, Started, Unit
from cfsctl.repository.objects.ingest import ContentIngest
from cfsctl.splitstream.format import ContentType, SplitstreamError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Manifest, Platform
    from cfsctl.oci.source import BlobReader, FoundManifest, ImageSource
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_READ_BYTES: Final = 1 << 18


def open_blob(repository: Repository, descriptor: Descriptor) -> FileRange | None:
    """Return a blob that is kept, or None; its digest has not been compared again."""
    stream_id = repository.streams.find(f"{BLOB}{descriptor.digest}")
    if stream_id is None:
        return None
    try:
        with repository.streams.open_object(stream_id, ContentType.OCI_BLOB) as reader:
            fd = repository.objects.open(find_only_object(reader))
    except (CfsError, SplitstreamError):
        return None  # fetched again, or made again
    size = os.fstat(fd).st_size
    if size != descriptor.size:
        os.close(fd)
        return None
    return FileRange(fd, 0, size, owns=True)


def find_kept(repository: Repository, manifest: OciDigest) -> dict[str, ObjectID]:
    """Return the blobs that a stored manifest keeps, by the names under which its stream refers to them."""
    stream_id = repository.streams.find(f"{MANIFEST}{manifest}")
    if stream_id is None:
        return {}
    try:
        with repository.streams.open_object(stream_id, ContentType.OCI_MANIFEST) as reader:
            refs = dict(reader.named_refs)
    except (SplitstreamError, IntegrityError):
        return {}
    return {
        name: refs[name]
        for name in sorted(refs)
        if name.startswith(BLOB_REF) and repository.objects.stat(refs[name]) is not None
    }


def keep_blobs(
    repository: Repository, source: ImageSource, manifest: Manifest, report: Reporter
) -> dict[str, ObjectID]:
    """Store the blobs of all compressed layers of an image; each has its name once it is on the disk.

    Returns:
        Stream by the name under which the manifest's stream is to refer to it.

    Raises:
        ReceivedDigestError: One is not what its digest says.
        SourceError: One has another size.
        OSError: Something could not be read or stored.
    """
    kept = {}
    for layer in manifest.layers:
        if find_compression(layer.media_type) in {None, Compression.NONE}:
            continue  # such a layer is put together again as it was
        name = f"{BLOB}{layer.digest}"
        if _is_kept(repository, layer):
            stream_id = repository.streams.find(name)
        else:
            with naming(f"layer {layer.digest}"):
                stream_id = _fetch(repository, source, layer, report)
            repository.sync()
            repository.streams.link(name, stream_id)
        assert stream_id is not None
        kept[f"{BLOB_REF}{layer.digest}"] = stream_id
    return kept


def _is_kept(repository: Repository, descriptor: Descriptor) -> bool:
    found = open_blob(repository, descriptor)
    if found is not None:
        found.close()
    return found is not None


def _fetch(repository: Repository, source: ImageSource, descriptor: Descriptor, report: Reporter) -> ObjectID:
    """Store a blob, whose size and digest are compared while it comes."""
    computed = descriptor.digest.new_hash()
    progress_id = f"blob {descriptor.digest}"
    report(Started(progress_id, descriptor.size, Unit.BYTES))
    reader = source.open_blob(descriptor)
    content = ContentIngest(repository.objects, descriptor.size, may_thread=True)
    received = 0
    try:
        while data := reader.read(_READ_BYTES):
            received += len(data)
            if received > descriptor.size:
                raise SourceError(f"Expected size {descriptor.size} but found more")
            computed.update(data)
            content.write(data)
            report(Advanced(progress_id, received, descriptor.size))
        if received != descriptor.size:
            raise SourceError(f"Expected size {descriptor.size} but found {received}")
        descriptor.digest.check(computed, "blob")
        stored = content.finish()
    finally:
        content.abort()
        reader.close()
    report(Done(progress_id, received))
    return write_document(repository, ContentType.OCI_BLOB, stored, {})


class KeptSource:
    """A source that gives the blobs that are kept from the repository; see `ImageSource`."""

    def __init__(self, repository: Repository, source: ImageSource) -> None:
        """Take the source, which stays the caller's."""
        self._repository = repository
        self._source = source

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self._source.name

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform."""
        return self._source.find_manifest(platform)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob."""
        return open_blob(self._repository, descriptor) or self._source.open_blob(descriptor)

    def close(self) -> None:
        """There is nothing to close."""
