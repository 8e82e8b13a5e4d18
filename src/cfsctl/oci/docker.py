"""Convert Docker's manifests (image manifest version 2, schema 2) to OCI manifests.

The two formats have the same content with different media types. A Docker image is stored in OCI form: the
manifest is rewritten, compact and in a fixed order, and has the digest of those bytes; config and layers are
not changed.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from cfsctl.oci.digest import compute_digest
from cfsctl.oci.manifest import parse_manifest
from cfsctl.oci.media_types import DOCKER_CONFIG, DOCKER_MANIFEST, FROM_DOCKER, MANIFEST
from cfsctl.oci.source import FoundManifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.oci.manifest import Descriptor


def convert_manifest(descriptor: Descriptor, data: bytes) -> FoundManifest:
    """Return a manifest as it is, or one of Docker's as OCI would have it.

    Args:
        descriptor: What refers to it; its digest has been checked.
        data: The manifest.

    Raises:
        FormatError: It is invalid.
    """
    what = f"manifest {descriptor.digest}"
    manifest = parse_manifest(data, what)
    if manifest.config.media_type != DOCKER_CONFIG and descriptor.media_type != DOCKER_MANIFEST:
        return FoundManifest(descriptor.digest, data)
    converted = write_manifest(manifest.config, manifest.layers, manifest.annotations)
    return FoundManifest(compute_digest(converted), converted, original=descriptor.digest)


def write_manifest(
    config: Descriptor, layers: Iterable[Descriptor], annotations: Mapping[str, str] | None = None
) -> bytes:
    """Return an OCI manifest, compact and in a fixed order; Docker's media types become OCI's."""
    document: dict[str, object] = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": _convert_descriptor(config),
        "layers": [_convert_descriptor(layer) for layer in layers],
    }
    if annotations:
        document["annotations"] = dict(sorted(annotations.items()))
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _convert_descriptor(descriptor: Descriptor) -> dict[str, object]:
    converted: dict[str, object] = {
        "mediaType": FROM_DOCKER.get(descriptor.media_type, descriptor.media_type),
        "digest": str(descriptor.digest),
        "size": descriptor.size,
    }
    if descriptor.urls:  # of a foreign layer
        converted["urls"] = list(descriptor.urls)
    return converted
