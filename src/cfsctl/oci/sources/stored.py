"""An image that is stored in another repository, of whichever hash, as a source.

Digests are computed again on the way: nothing from the other repository is trusted.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from cfsctl.errors import IntegrityError, ObjectMissingError
from cfsctl.oci.local_source import LayerFile, LocalSource
from cfsctl.oci.source import BytesBlob, FileRange, FoundManifest, ImageNotFoundError, check_size
from cfsctl.oci.store.blobs import open_blob
from cfsctl.oci.store.documents import find_only_object
from cfsctl.splitstream.format import ContentType
from cfsctl.splitstream.reader import External

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Platform
    from cfsctl.oci.source import BlobReader
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.repository import Repository


class StoredSource(LocalSource):
    """One image or artifact of an open repository."""

    def __init__(self, repository: Repository, image: StoredImage, name: str) -> None:
        """Read nothing yet.

        Args:
            repository: Where it is stored, borrowed.
            image: The image.
            name: What messages call it.
        """
        self._repository = repository
        self._image = image
        self._name = name

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self._name

    def find_manifest(self, platform: Platform) -> FoundManifest:  # noqa: ARG002 - it was chosen before
        """Return the manifest; see `cfsctl.oci.source.ImageSource`."""
        return FoundManifest(self._image.digest, self._image.manifest_document.data, is_chosen=True)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open the config, a layer of an artifact, or a compressed layer that is kept."""
        if descriptor.digest == self._image.manifest.config.digest:
            data = self._image.config_document.data
            check_size("config", descriptor, len(data))
            return BytesBlob(data)
        if self._image.manifest.is_container:
            kept = open_blob(self._repository, descriptor)
            if kept is None:
                raise ImageNotFoundError(f"blob {descriptor.digest}: not kept in {self._repository.path}")
            return kept
        stream_id = self._find_layer(descriptor.digest)
        with (
            self._naming(),
            self._repository.streams.open_object(stream_id, ContentType.OCI_BLOB) as reader,
        ):
            fd = self._repository.objects.open(find_only_object(reader))
        return FileRange(fd, 0, os.fstat(fd).st_size, owns=True)

    def _find_layer(self, digest: OciDigest) -> ObjectID:
        stream_id = self._image.layer_refs.get(str(digest))
        if stream_id is None:
            raise IntegrityError(
                f"stored config {self._image.manifest.config.digest}: missing named ref to layer {digest}"
            )
        return stream_id

    def iter_layer(self, diff_id: OciDigest) -> Iterator[bytes | LayerFile]:
        """Yield what the archive of a layer consists of; see `LocalSource`."""
        repository = self._repository
        stream_id = self._find_layer(diff_id)
        with self._naming(), repository.streams.open_object(stream_id, ContentType.OCI_LAYER) as reader:
            for chunk in reader.iter_chunks():
                if isinstance(chunk, External):
                    fd = repository.objects.open(chunk.object_id)
                    yield LayerFile(fd, os.fstat(fd).st_size, chunk.object_id.hex().encode())
                else:
                    yield bytes(chunk.data)

    def layer_size(self, diff_id: OciDigest) -> int:
        """Return the bytes of a layer's archive; see `LocalSource`."""
        with self._naming(), self._repository.streams.open_object(self._find_layer(diff_id)) as reader:
            return reader.stream_size

    @contextlib.contextmanager
    def _naming(self) -> Iterator[None]:
        """Say which repository lacks an object: two are open."""
        try:
            yield
        except ObjectMissingError as error:
            raise IntegrityError(
                f"{self._repository.path}: {error}", hint="see what `cfsctl fsck` says of that repository"
            ) from error

    @property
    def has_blobs(self) -> bool:
        """Whether all compressed layers are kept; see `LocalSource`."""
        for layer in self._image.manifest.layers:
            kept = open_blob(self._repository, layer)
            if kept is None:
                return False
            kept.close()
        return True

    def close(self) -> None:
        """There is nothing to close: the repository is borrowed."""
