"""Push a stored image: its layers, compared with their digests, then the config, then the manifest.

A repository keeps layers unpacked, and as they came only on request. Where it has the blob, the destination
has it already, or the layer was never compressed, nothing about the image changes. Otherwise the layer is
compressed again, which usually gives other bytes than before: then the manifest names those, and so has
another digest. The config never changes.
"""

from __future__ import annotations

import io
import json
from dataclasses import dataclass, replace
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.json_fields import parse_object
from cfsctl.oci.context import naming
from cfsctl.oci.destinations.base import MountingDestination
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.import_layer import choose_compression
from cfsctl.oci.layer_blobs import spool_layer
from cfsctl.oci.manifest import Descriptor, parse_config
from cfsctl.oci.media_types import MANIFEST
from cfsctl.oci.mounts import find_mounts
from cfsctl.oci.store.blobs import open_blob
from cfsctl.oci.store.documents import find_only_object
from cfsctl.progress import Done, Skipped, Started, Unit, silent
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.destinations.base import ImageDestination
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

_ABOUT_COMPRESSED: Final = ("io.github.containers.zstd-chunked.", "containerd.io/snapshot/stargz/")
"""Beginnings of annotations that speak of places in the compressed bytes."""


_READ_BYTES: Final = 1 << 18


class DigestChangedError(CfsError):
    """An image whose manifest would have to change, against what was asked for."""

    exit_code = ExitCode.POLICY


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push has done.

    Attributes:
        manifest_digest: The manifest as it was pushed.
        stored_digest: The manifest as it is stored here.
        sent: Blobs that were sent.
        present: Blobs that were there already.
        sent_bytes: Sizes of those that were sent.
        mounted: Blobs that the registry took from another repository of its own.
        images: Images and artifacts that were pushed, without those about them.
        referrers: Artifacts about them that were pushed.
    """

    manifest_digest: OciDigest
    stored_digest: OciDigest
    sent: int
    present: int
    sent_bytes: int
    mounted: int = 0
    images: int = 1
    referrers: int = 0


def push(
    repository: Repository,
    image: StoredImage,
    destination: ImageDestination,
    *,
    preserve_digests: bool = False,
    reporter: Reporter = silent,
) -> PushResult:
    """Push an image or artifact.

    Args:
        repository: Where it is stored.
        image: The image.
        destination: Where it goes.
        preserve_digests: Fail where the manifest would have to change.
        reporter: Told how far it is.

    Raises:
        DigestChangedError: The manifest would have to change; the image has no name at the destination.
        IntegrityError: Something stored is damaged.
        FetchError: The registry does not take it.
        OSError: Something cannot be read or written.
    """
    with naming(destination.name):
        run = ImagePush(repository, destination, preserve_digests=preserve_digests, reporter=reporter)
        pushed = run.push_blobs(image)
        destination.put_manifest(*pushed)
        return run.result(pushed.descriptor.digest, image.digest)


class PushedManifest(NamedTuple):
    """A manifest or index as the destination gets it.

    Attributes:
        descriptor: What it is.
        data: The same.
    """

    descriptor: Descriptor
    data: bytes


class ImagePush:
    """Pushes the blobs of images to one destination, and counts them."""

    def __init__(
        self,
        repository: Repository,
        destination: ImageDestination,
        *,
        preserve_digests: bool = False,
        reporter: Reporter = silent,
    ) -> None:
        """Push nothing yet; see `push` for the arguments."""
        self._repository = repository
        self._destination = destination
        self._preserve_digests = preserve_digests
        self._report = reporter
        self._image: StoredImage
        self._sent = self._present = self._sent_bytes = self._mounted = 0
        self._mounts: dict[str, list[str]] = {}

    def push_blobs(self, image: StoredImage) -> PushedManifest:
        """Push layers and config of an image; return the manifest that names them, which comes next."""
        self._image = image
        manifest = image.manifest
        if isinstance(self._destination, MountingDestination):
            self._mounts = find_mounts(self._repository, image, self._destination.host)
        layers = [
            self._push_layer(descriptor, *place)
            for descriptor, place in zip(manifest.layers, self._list_layers(), strict=True)
        ]
        if not self._has(manifest.config):
            self._put(manifest.config, io.BytesIO(image.config_document.data))
        data = image.manifest_document.data
        if layers != list(manifest.layers):
            data = replace_layers(data, layers)
        media_type = parse_object(data, "manifest").find_string("mediaType") or MANIFEST
        descriptor = Descriptor(media_type, compute_digest(data), len(data), {})
        if descriptor.digest.encoded != image.digest.encoded and layers == list(manifest.layers):
            descriptor = replace(descriptor, digest=image.digest)
        return PushedManifest(descriptor, data)

    def result(self, pushed: OciDigest, stored: OciDigest) -> PushResult:
        """Return what was done so far.

        Args:
            pushed: The manifest or index as it was pushed.
            stored: The same as it is stored.
        """
        return PushResult(pushed, stored, self._sent, self._present, self._sent_bytes, self._mounted)

    def _list_layers(self) -> list[tuple[OciDigest, ObjectID]]:
        """Return the name and stream of each layer."""
        image = self._image
        digests: tuple[OciDigest, ...] = tuple(layer.digest for layer in image.manifest.layers)
        if image.manifest.is_container:
            config = parse_config(image.config_document.data, f"config {image.manifest.config.digest}")
            digests = config.diff_ids
        refs = image.layer_refs
        return [(digest, refs[str(digest)]) for digest in digests]

    def _push_layer(self, descriptor: Descriptor, digest: OciDigest, stream_id: ObjectID) -> Descriptor:
        """Push a layer; return what it is at the destination."""
        progress_id = f"layer {descriptor.digest}"
        if self._has(descriptor):
            self._report(Skipped(progress_id))
            return descriptor
        self._report(Started(progress_id, descriptor.size, Unit.BYTES))
        if not self._image.manifest.is_container:
            pushed = self._push_artifact_layer(descriptor, stream_id)
        else:
            with naming(f"layer {digest}"):
                pushed = self._push_tar_layer(descriptor, digest, stream_id)
        self._report(Done(progress_id, descriptor.size))
        return pushed

    def _push_tar_layer(self, descriptor: Descriptor, digest: OciDigest, stream_id: ObjectID) -> Descriptor:
        if self._push_kept(descriptor):
            return descriptor
        compression = choose_compression(descriptor)
        with spool_layer(self._repository, digest, stream_id, compression) as blob:
            if (blob.digest, blob.size) == (descriptor.digest, descriptor.size):
                self._put(descriptor, blob.file)
                return descriptor
            if self._preserve_digests:
                raise DigestChangedError(
                    f"expected the blob {descriptor.digest}, which is not kept and not at the destination;"
                    f" compressed again it is {blob.digest}",
                    hint="leave --preserve-digests out to push it with another manifest",
                )
            kept = {
                key: value
                for key, value in descriptor.annotations.items()
                if not key.startswith(_ABOUT_COMPRESSED)
            }
            pushed = replace(descriptor, digest=blob.digest, size=blob.size, annotations=kept)
            if not self._has(pushed):
                self._put(pushed, blob.file)
            return pushed

    def _push_kept(self, descriptor: Descriptor) -> bool:
        """Push the blob as it came, if it was kept and is still right."""
        kept = open_blob(self._repository, descriptor)
        if kept is None:
            return False
        with open(kept.take_fd(), "rb") as file:
            computed = descriptor.digest.new_hash()
            while data := file.read(_READ_BYTES):
                computed.update(data)
            if computed.hexdigest() != descriptor.digest.encoded:
                return False
            file.seek(0)
            self._put(descriptor, file)
        return True

    def _push_artifact_layer(self, descriptor: Descriptor, stream_id: ObjectID) -> Descriptor:
        streams, objects = self._repository.streams, self._repository.objects
        with streams.open_object(stream_id, ContentType.OCI_BLOB) as reader:
            object_id = find_only_object(reader)
        with open(objects.open(object_id), "rb") as file:
            self._put(descriptor, file)
        return descriptor

    def _has(self, descriptor: Descriptor) -> bool:
        if self._destination.has_blob(descriptor):
            self._present += 1
            return True
        return self._mount(descriptor)

    def _mount(self, descriptor: Descriptor) -> bool:
        """Have a registry take a blob from another repository that may have it."""
        if not isinstance(self._destination, MountingDestination):
            return False
        for path in self._mounts.get(str(descriptor.digest), ()):
            if self._destination.try_mount(descriptor, path):
                self._mounted += 1
                return True
        return False

    def _put(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        self._destination.put_blob(descriptor, file)
        self._sent += 1
        self._sent_bytes += descriptor.size


def replace_layers(data: bytes, layers: list[Descriptor]) -> bytes:
    """Return a manifest that names other blobs for the same layers; all else is kept.

    Args:
        data: The manifest.
        layers: What its layers are now.
    """
    document = parse_object(data, "manifest").to_dict()
    old = parse_object(data, "manifest").get_list_of_fields("layers")
    document["layers"] = [
        _replace_layer(fields.to_dict(), layer) for fields, layer in zip(old, layers, strict=True)
    ]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _replace_layer(entry: dict[str, object], layer: Descriptor) -> dict[str, object]:
    if entry["digest"] == str(layer.digest):
        return entry
    changed = {**entry, "digest": str(layer.digest), "size": layer.size}
    changed.pop("annotations", None)
    if layer.annotations:
        changed["annotations"] = dict(layer.annotations)
    return changed
