"""Images of podman, buildah, skopeo and CRI-O: ``containers-storage:NAME``, read without these programs.

The storage keeps no blobs: a layer is its files, and a record of everything else that its archive had. The
archive is reassembled and has to have the digest that the config says (its diff ID). Digests of
compressed layers, which the manifest has, cannot be compared, since nobody can compress a layer again to the
same bytes; nothing depends on them.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.json_fields import parse_object
from cfsctl.oci.containers_storage.configuration import parse_storage_reference
from cfsctl.oci.containers_storage.images import find_chain, find_image
from cfsctl.oci.containers_storage.opener import open_files
from cfsctl.oci.containers_storage.store import StorageUnreadableError, open_store
from cfsctl.oci.containers_storage.tar_split import SplitFile
from cfsctl.oci.digest import OciDigest, compute_digest, parse_digest
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.local_source import LayerFile, LocalSource
from cfsctl.oci.manifest import Descriptor, ManifestError, parse_config, parse_index, parse_manifest
from cfsctl.oci.media_types import INDEX, INDEXES, MANIFEST
from cfsctl.oci.source import BytesBlob, FoundManifest, ImageNotFoundError, SourceError
from cfsctl.oci.sources.platforms import PlatformChoice

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cfsctl.oci.containers_storage.configuration import StoreLocation
    from cfsctl.oci.containers_storage.images import ChainLayer, StoredImage
    from cfsctl.oci.containers_storage.store import Store
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.source import BlobReader


class _Layer(NamedTuple):
    """A layer of the chosen image."""

    place: ChainLayer
    size: int


class ContainersStorageSource(LocalSource):
    """One image of the storage."""

    def __init__(self, place: str, locations: Sequence[StoreLocation]) -> None:
        """Open the stores.

        Args:
            place: What follows ``containers-storage:``.
            locations: Where to look, unless the reference says so.

        Raises:
            ImageReferenceError: It is not a reference.
            StorageUnreadableError: This user may read none of the stores.
        """
        self._place = place
        wanted = parse_storage_reference(place)
        self._wanted = wanted.name
        self._stores: list[Store] = []
        self._layers: dict[OciDigest, _Layer] = {}
        self._documents: dict[OciDigest, bytes] = {}
        try:
            self._open_stores(wanted.stores or tuple(locations))
            self._files = open_files(self._stores)
        except BaseException:
            self._close_stores()
            raise

    def _open_stores(self, locations: Sequence[StoreLocation]) -> None:
        problem: PermissionError | None = None
        for location in locations:
            try:
                store = open_store(location)
            except PermissionError as error:
                problem = error
                continue
            if store is not None:
                self._stores.append(store)
        if problem is not None and not self._stores:
            raise StorageUnreadableError(
                f"{self.name}: {problem.filename}: {problem.strerror}",
                hint="run it as root, or with `podman unshare cfsctl ...` if the storage is yours",
            ) from problem

    @property
    def name(self) -> str:
        """What messages call the image."""
        return f"containers-storage:{self._place}"

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform; see `cfsctl.oci.source.ImageSource`."""
        image = find_image(self._stores, self._wanted)
        descriptor, data = self._read_manifest(image)
        if descriptor.media_type in INDEXES:
            entries = parse_index(data, f"index {descriptor.digest}")
            found = PlatformChoice(self._read_listed, platform).choose(entries, 1)
            image = find_image(self._stores, str(found.digest))
        else:
            found = convert_manifest(descriptor, data)
        self._take_layers(image, found)
        return found

    def _read_manifest(self, image: StoredImage) -> tuple[Descriptor, bytes]:
        """Return the manifest that the name asks for, or else the one that the image is of."""
        digest = _digest_of(self._wanted)
        name = "manifest" if digest is None else f"manifest-{digest}"
        if name not in image.record.documents:
            name = "manifest"
        data = self._read_document(image, name)
        if digest is not None and name != "manifest":
            digest.check_bytes(data, "manifest")
        else:
            digest = compute_digest(data)
        media_type = parse_object(data, f"manifest {digest}").find_string("mediaType")
        if media_type is None:
            has_list = parse_object(data, f"manifest {digest}").find_list("manifests") is not None
            media_type = INDEX if has_list else MANIFEST
        return Descriptor(media_type, digest, len(data), {}), data

    def _read_listed(self, descriptor: Descriptor, what: str) -> bytes:
        """Return a document that an index or manifest refers to."""
        known = self._documents.get(descriptor.digest)
        if known is not None:
            return known
        image = find_image(self._stores, str(descriptor.digest))
        data = self._read_document(image, f"manifest-{descriptor.digest}")
        descriptor.digest.check_bytes(data, what)
        if descriptor.media_type not in INDEXES:
            config = parse_manifest(data, f"manifest {descriptor.digest}").config
            self._documents[config.digest] = self._read_document(image, str(config.digest))
        return data

    def _read_document(self, image: StoredImage, name: str) -> bytes:
        try:
            return image.store.read_document(image.record.id, name)
        except FileNotFoundError as error:
            raise SourceError(
                f"image {image.record.id}: {name} is missing in {image.store.path}",
                hint="pull the image again with podman",
            ) from error

    def _take_layers(self, image: StoredImage, found: FoundManifest) -> None:
        """Find the layers of an image, and lock them."""
        manifest = parse_manifest(found.data, f"manifest {found.digest}")
        digest = manifest.config.digest
        data = self._read_document(image, str(digest))
        digest.check_bytes(data, "config")
        self._documents[digest] = data
        if not manifest.is_container:
            return
        config = parse_config(data, f"config {digest}")
        chain = find_chain(self._stores, image)
        if len(chain) != len(config.diff_ids):
            raise ManifestError(
                f"image {image.record.id}: expected {len(config.diff_ids)} layers, as its config says,"
                f" found {len(chain)} in {image.store.path}"
            )
        for diff_id, layer in zip(config.diff_ids, chain, strict=True):
            self._layers[diff_id] = _Layer(layer, layer.record.size)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a document; layers are not kept as blobs, see `iter_layer`."""
        data = self._documents.get(descriptor.digest)
        if data is None:
            raise ImageNotFoundError(
                f"blob {descriptor.digest}: containers-storage keeps no compressed layers and no blobs"
            )
        return BytesBlob(data)

    def iter_layer(self, diff_id: OciDigest) -> Iterator[bytes | LayerFile]:
        """Yield what the archive of a layer consists of; see `LocalSource`."""
        store, record = self._layers[diff_id].place
        for part in store.iter_archive(record.id):
            if isinstance(part, SplitFile):
                yield LayerFile(self._open(store, record.id, part), part.size, part.name)
            else:
                yield part

    def _open(self, store: Store, layer_id: str, file: SplitFile) -> int:
        shown = os.fsdecode(file.name)
        try:
            fd = self._files.open(store, layer_id, file.name)
        except PermissionError:
            raise
        except OSError as error:
            raise SourceError(
                f"layer {layer_id}: {shown!r}: expected a file of {file.size} bytes in {store.path},"
                f" found: {error.strerror}",
                hint="the storage was changed after the image was stored there: pull it again with podman",
            ) from error
        size = os.fstat(fd).st_size
        if size != file.size:
            os.close(fd)
            raise SourceError(
                f"layer {layer_id}: {shown!r}: expected {file.size} bytes, found {size}",
                hint="the storage was changed after the image was stored there: pull it again with podman",
            )
        return fd

    def layer_size(self, diff_id: OciDigest) -> int:
        """Return the bytes of a layer's archive, as the storage says; see `LocalSource`."""
        return self._layers[diff_id].size

    def close(self) -> None:
        """Release the locks and close everything; may be called again."""
        self._files.close()
        self._close_stores()

    def _close_stores(self) -> None:
        for store in self._stores:
            store.close()


def _digest_of(name: str) -> OciDigest | None:
    """Return the digest that a name ends with, or None."""
    _, at, text = name.rpartition("@")
    try:
        return parse_digest(text) if at or text.startswith("sha") else None
    except ValueError:
        return None
