"""Name an image whose layers are stored already."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.manifest import parse_config, parse_manifest
from cfsctl.oci.store.images import open_image, set_tag, verify_layer
from cfsctl.oci.store.layers import LayerNotFoundError
from cfsctl.oci.store.names import LAYER, MANIFEST, check_tag
from cfsctl.oci.store.publish import ImageNames, has_all_images, keep_image_refs, store_images
from cfsctl.oci.to_tree import image_tree

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Manifest
    from cfsctl.repository import Repository


class FinalizedImage(NamedTuple):
    """An image that has got its names.

    Attributes:
        manifest_digest: The manifest.
        manifest_id: Its stream.
        config_digest: The config.
        config_id: Its stream.
    """

    manifest_digest: OciDigest
    manifest_id: ObjectID
    config_digest: OciDigest
    config_id: ObjectID


def finalize_image(
    repository: Repository,
    manifest: bytes,
    config: bytes,
    layers: Mapping[OciDigest, ObjectID],
    tag: str | None = None,
) -> FinalizedImage:
    """Store manifest and config of an image whose layers are stored, and make its file system images.

    All is checked before anything is written. An image that is complete already only gets the tag.

    Args:
        repository: Where.
        manifest: The manifest, byte for byte.
        config: The config, the same.
        layers: Streams by digest: of uncompressed layers or, for artifacts, of blobs.
        tag: The tag to move to the image, or None.

    Raises:
        InvalidNameError: The tag cannot be one.
        FormatError: A document is not valid, or a layer is not an archive.
        LayerNotFoundError: A layer is missing.
        IntegrityError: The config is not the manifest's, or a stream is not the layer's.
    """
    if tag is not None:
        check_tag(tag)
    repository.check_writable()
    digest = compute_digest(manifest)
    parsed = parse_manifest(manifest, f"manifest {digest}")
    config_digest = parsed.config.digest
    config_digest.check_bytes(config, "config")
    done = _find_complete(repository, digest)
    if done is None:
        found = _choose_layers(repository, parsed, config, layers)
        done = _store(
            repository, (digest, manifest), (config_digest, config), found, is_image=parsed.is_container
        )
    if tag is not None:
        set_tag(repository, f"@{digest}", tag)
    return FinalizedImage(digest, done[0], config_digest, done[1])


def _find_complete(repository: Repository, digest: OciDigest) -> tuple[ObjectID, ObjectID] | None:
    """Return the streams of manifest and config if all of an image is there."""
    if repository.streams.find(f"{MANIFEST}{digest}") is None:
        return None
    try:
        image = open_image(repository, digest)
    except CfsError:
        return None  # damaged, which writing it again heals
    refs = keep_image_refs(image.config_document.refs)
    if image.manifest.is_container and not has_all_images(repository, refs):
        return None
    return image.manifest_document.stream_id, image.config_document.stream_id


def _choose_layers(
    repository: Repository, manifest: Manifest, config: bytes, given: Mapping[OciDigest, ObjectID]
) -> dict[OciDigest, ObjectID]:
    """Return the stream of each layer, lowest first."""
    digests = [layer.digest for layer in manifest.layers]
    if manifest.is_container:
        digests = list(parse_config(config, f"config {manifest.config.digest}").diff_ids)
        if len(digests) != len(manifest.layers):
            raise IntegrityError(
                f"config {manifest.config.digest}: expected {len(manifest.layers)} layers,"
                f" found {len(digests)}"
            )
    chosen = {}
    for digest in digests:
        stream_id = given.get(digest)
        if stream_id is None or not repository.objects.contains(stream_id):
            raise LayerNotFoundError(f"Layer {digest} not found", hint="put the layer first")
        if repository.streams.find(f"{LAYER}{digest}") != stream_id:
            verify_layer(repository, digest, stream_id)
        chosen[digest] = stream_id
    return chosen


def _store(
    repository: Repository,
    manifest: tuple[OciDigest, bytes],
    config: tuple[OciDigest, bytes],
    layers: Mapping[OciDigest, ObjectID],
    *,
    is_image: bool,
) -> tuple[ObjectID, ObjectID]:
    images: dict[str, ObjectID] = {}
    if is_image:
        images = store_images(repository, image_tree(repository, list(layers.items())))
    store = repository.objects.ensure_bytes
    names = ImageNames(
        repository,
        (manifest[0], store(manifest[1])),
        (config[0], store(config[1])),
        layers,
        is_container=is_image,
    )
    names.write(images)
    names.publish(None)
    return names.manifest_id, names.config_id
