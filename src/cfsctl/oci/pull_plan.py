"""What a pull would do: find the image, and compare its layers with those that are stored.

Manifest and config are read, and verified as in a pull; nothing is stored.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING

from cfsctl.oci.context import naming
from cfsctl.oci.fetch_layers import find_layers
from cfsctl.oci.find_image import find_image
from cfsctl.oci.local_source import LocalSource
from cfsctl.oci.source import ResumableSource
from cfsctl.oci.store.image_refs import plain_kind
from cfsctl.oci.store.names import MANIFEST
from cfsctl.oci.store.partial_blobs import find_partial_size
from cfsctl.oci.store.publish import has_all_images

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.import_layer import WantedLayer
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.source import ImageSource
    from cfsctl.repository import Repository


class LayerState(Enum):
    """What a pull would do with a layer."""

    STORED = "stored"
    FETCH = "fetch"
    LOCAL = "local"


@dataclass(frozen=True, slots=True)
class PlannedLayer:
    """A layer of an image that would be pulled.

    Attributes:
        digest: Its blob; a patch if the image is a delta.
        size: Bytes of the blob.
        layer: Digest of the layer when it is stored: unpacked, or that of an artifact's blob.
        state: What would be done; `LayerState.LOCAL` is read from files on this machine.
        kept_bytes: Bytes that an interrupted pull has kept.
    """

    digest: OciDigest
    size: int
    layer: OciDigest
    state: LayerState
    kept_bytes: int = 0

    @property
    def fetch_bytes(self) -> int:
        """Bytes that would be fetched."""
        return 0 if self.state is LayerState.STORED else self.size - self.kept_bytes


@dataclass(frozen=True, slots=True)
class PullPlan:
    """What a pull would do.

    Attributes:
        manifest_digest: The manifest.
        config_digest: The config.
        tag: The tag that would name it, or None.
        layers: Its layers, lowest first; one that occurs twice is fetched once.
        is_stored: Whether the image is stored with all its layers and images.
        image: The file system image in the default format, if that is stored.
        free_bytes: Room that there is.
    """

    manifest_digest: OciDigest
    config_digest: OciDigest
    tag: str | None
    layers: tuple[PlannedLayer, ...]
    is_stored: bool
    image: ObjectID | None
    free_bytes: int

    @property
    def missing(self) -> list[PlannedLayer]:
        """The layers that would be fetched, each once."""
        found = {layer.layer: layer for layer in self.layers if layer.state is not LayerState.STORED}
        return list(found.values())

    @property
    def fetch_bytes(self) -> int:
        """Bytes of layers that would be fetched."""
        return sum(layer.fetch_bytes for layer in self.missing)

    @property
    def has_room(self) -> bool | None:
        """Whether there is room; None if not even the compressed layers show that there is none."""
        return False if sum(layer.size for layer in self.missing) > self.free_bytes else None


def plan_pull(
    repository: Repository, source: ImageSource, tag: str | None = None, platform: Platform | None = None
) -> PullPlan:
    """Return what a pull would do; see `cfsctl.oci.pull.pull`.

    Raises:
        ImageNotFoundError: The source does not have it, or not for this platform.
        DeltaBaseMissingError: It is a delta, and the image that it starts from is not stored.
        ReceivedDigestError, FormatError: Something is not valid.
    """
    with naming(source.name):
        found = find_image(repository, source, platform)
        stored = find_layers(repository, found.layers)
        layers = tuple(
            _plan_layer(repository, source, layer, layer.digest in stored) for layer in found.layers
        )
    default = plain_kind(repository.erofs_versions[0])
    is_stored = repository.streams.find(f"{MANIFEST}{found.digest}") is not None and all(
        layer.state is LayerState.STORED for layer in layers
    )
    if found.manifest.is_container:
        is_stored = is_stored and has_all_images(repository, found.images)
    return PullPlan(
        manifest_digest=found.digest,
        config_digest=found.manifest.config.digest,
        tag=tag,
        layers=layers,
        is_stored=is_stored,
        image=found.images.get(default.ref),
        free_bytes=_count_free_bytes(repository),
    )


def _count_free_bytes(repository: Repository) -> int:
    """Return the room for objects; nothing is made to find out."""
    try:
        status = os.fstatvfs(repository.objects.objects_fd())
    except FileNotFoundError:
        status = os.fstatvfs(repository.dirfd)
    return status.f_bavail * status.f_frsize


def _plan_layer(
    repository: Repository,
    source: ImageSource,
    layer: WantedLayer,
    is_stored: bool,  # noqa: FBT001 - one call
) -> PlannedLayer:
    descriptor = layer.descriptor
    state = LayerState.FETCH
    if is_stored:
        state = LayerState.STORED
    elif isinstance(source, LocalSource):
        state = LayerState.LOCAL
    kept = 0
    if state is LayerState.FETCH and isinstance(source, ResumableSource):
        kept = find_partial_size(repository, descriptor)
    return PlannedLayer(descriptor.digest, descriptor.size, layer.digest, state, kept)
