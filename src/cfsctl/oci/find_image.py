"""Find the image that a source leads to, and read and verify its documents."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import CfsError
from cfsctl.oci.fetch_layers import find_layers
from cfsctl.oci.import_layer import WantedLayer, choose_compression
from cfsctl.oci.manifest import ManifestError, matches, parse_config, parse_manifest
from cfsctl.oci.media_types import DELTA_ARTIFACT
from cfsctl.oci.reference import host_platform
from cfsctl.oci.source import ImageNotFoundError, read_document
from cfsctl.oci.store.documents import read_document as read_stored
from cfsctl.oci.store.names import CONFIG
from cfsctl.oci.store.publish import keep_image_refs
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.delta.artifact import Delta
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Manifest, Platform
    from cfsctl.oci.source import ImageSource
    from cfsctl.repository import Repository


class FoundImage(NamedTuple):
    """An image that is to be pulled, with its verified documents.

    Attributes:
        digest: The manifest's digest; of a delta, that of the image it leads to.
        data: The manifest.
        manifest: The same, parsed.
        config: The config.
        images: File system images that the stored config names.
        layers: What each layer is to be.
        delta: The delta that has been found in place of the image, or None.
        original: The digest of the manifest that this one was converted from, or None.
    """

    digest: OciDigest
    data: bytes
    manifest: Manifest
    config: bytes
    images: dict[str, ObjectID]
    layers: list[WantedLayer]
    delta: Delta | None
    original: OciDigest | None = None


def find_image(
    repository: Repository, source: ImageSource, platform: Platform | None, *, applies_deltas: bool = True
) -> FoundImage:
    """Return the image that a source leads to; its documents are verified.

    Args:
        repository: Where it would go; documents that it has are not read from the source.
        source: Where it is.
        platform: What it must run on, or None for this machine's choice.
        applies_deltas: Whether a delta stands for the image that it leads to.

    Raises:
        ImageNotFoundError: The source does not have it, or not for this platform.
        DeltaBaseMissingError: It is a delta, and the image that it starts from is not stored.
        ReceivedDigestError, FormatError: Something is not valid.
    """
    digest, data, is_chosen, original = source.find_manifest(platform or host_platform())
    manifest = parse_manifest(data, f"manifest {digest}")
    delta: Delta | None = None
    if applies_deltas and manifest.artifact_type == DELTA_ARTIFACT:
        from cfsctl.oci.delta.artifact import read_delta  # few images are deltas

        delta = read_delta(source, manifest)
        digest, data = delta.manifest[:2]
        manifest = parse_manifest(data, f"manifest {digest}")
    config, images = _get_config(repository, source, manifest, delta)
    layers = _list_layers(manifest, config)
    if platform is not None and not is_chosen and manifest.is_container:
        _check_platform(parse_config(config).platform, platform)
    if delta is not None:
        layers = _patch_layers(repository, layers, delta)
    return FoundImage(digest, data, manifest, config, images, layers, delta, original)


def _patch_layers(repository: Repository, layers: list[WantedLayer], delta: Delta) -> list[WantedLayer]:
    """Return the layers with patches in the place of blobs; what has none must be stored.

    Raises:
        DeltaBaseMissingError: The image that the delta starts from is not stored.
        ManifestError: A layer is neither here nor in the delta.
    """
    stored = find_layers(repository, layers)
    if any(layer.digest not in stored for layer in layers):
        from cfsctl.oci.delta.artifact import check_base

        check_base(repository, delta.source_config)
    patched = []
    for layer in layers:
        patch = delta.patches.get(layer.descriptor.digest)
        if patch is None and layer.digest not in stored:
            raise ManifestError(f"Reused layer {layer.digest} not found", hint="pull the whole image")
        patched.append(layer if patch is None else layer._replace(descriptor=patch))
    return patched


def _get_config(
    repository: Repository, source: ImageSource, manifest: Manifest, delta: Delta | None
) -> tuple[bytes, dict[str, ObjectID]]:
    """Return the config and the images that are known of it."""
    digest = manifest.config.digest
    stream_id = repository.streams.find(f"{CONFIG}{digest}")
    if stream_id is not None:
        try:
            stored = read_stored(repository, stream_id, ContentType.OCI_CONFIG, digest)
        except CfsError:
            pass  # fetched again, which heals it
        else:
            return stored.data, keep_image_refs(stored.refs)
    if delta is not None:
        return delta.config, {}
    return read_document(source, manifest.config, "config"), {}


def _check_platform(found: Platform, wanted: Platform) -> None:
    """Compare the platform of a config with the one that was asked for.

    Raises:
        ImageNotFoundError: It is another one.
    """
    if not matches(found, wanted):
        raise ImageNotFoundError(
            f"No manifest found for platform {wanted}; available: {found} (of its config)",
            hint="choose another one with --platform",
        )


def _list_layers(manifest: Manifest, config: bytes) -> list[WantedLayer]:
    """Return what each layer of a manifest is to be.

    Raises:
        ManifestError: The config does not go with it.
        SourceError: A layer of an image is not an archive.
    """
    if not manifest.is_container:
        return [WantedLayer(layer, layer.digest, is_tar=False) for layer in manifest.layers]
    diff_ids = parse_config(config, f"config {manifest.config.digest}").diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ManifestError(
            f"config {manifest.config.digest}: rootfs.diff_ids:"
            f" expected {len(manifest.layers)} layer refs but got {len(diff_ids)}"
        )
    for layer in manifest.layers:
        choose_compression(layer)
    return [
        WantedLayer(layer, digest, is_tar=True)
        for layer, digest in zip(manifest.layers, diff_ids, strict=True)
    ]
