"""Original blobs of layers, stored in addition to the layers so that an image can be pushed unchanged.

    streams/oci-blob-<digest>    one object: the compressed layer

The stream of the manifest refers to them as ``blob:<digest>``, behind everything else that it refers to.
Other programs keep them as long as they do not write that stream again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.source import FileRange
from cfsctl.oci.store.documents import find_only_object
from cfsctl.oci.store.names import BLOB, BLOB_REF, MANIFEST
from cfsctl.splitstream.format import ContentType, SplitstreamError

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Platform
    from cfsctl.oci.source import BlobReader, FoundManifest, ImageSource
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
