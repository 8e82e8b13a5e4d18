"""Media types and their meaning."""

from __future__ import annotations

from typing import Final

from cfsctl.compression import Compression

_OCI: Final = "application/vnd.oci.image."
_DOCKER: Final = "application/vnd.docker."

MANIFEST: Final = _OCI + "manifest.v1+json"
INDEX: Final = _OCI + "index.v1+json"
CONFIG: Final = _OCI + "config.v1+json"

DOCKER_MANIFEST: Final = _DOCKER + "distribution.manifest.v2+json"
DOCKER_LIST: Final = _DOCKER + "distribution.manifest.list.v2+json"
DOCKER_CONFIG: Final = _DOCKER + "container.image.v1+json"

MANIFESTS: Final = frozenset({MANIFEST, DOCKER_MANIFEST})
INDEXES: Final = frozenset({INDEX, DOCKER_LIST})

DELTA_ARTIFACT: Final = "application/vnd.io.github.containers.oci-delta.v1"
"""Artifact type of a delta between two images."""

_COMPRESSIONS: Final = {
    "": Compression.NONE,
    "+gzip": Compression.GZIP,
    "+zstd": Compression.ZSTD,
}
_LAYERS: Final = {
    f"{_OCI}{kind}.v1.tar{suffix}": compression
    for kind in ("layer", "layer.nondistributable")
    for suffix, compression in _COMPRESSIONS.items()
}

_STATEMENTS: Final = frozenset(
    {"application/vnd.in-toto+json", "application/vnd.dev.cosign.simplesigning.v1+json"}
)

FROM_DOCKER: Final = {
    DOCKER_MANIFEST: MANIFEST,
    DOCKER_CONFIG: CONFIG,
    _DOCKER + "image.rootfs.diff.tar": _OCI + "layer.v1.tar",
    _DOCKER + "image.rootfs.diff.tar.gzip": _OCI + "layer.v1.tar+gzip",
    _DOCKER + "image.rootfs.diff.tar.zstd": _OCI + "layer.v1.tar+zstd",
    _DOCKER + "image.rootfs.foreign.diff.tar": _OCI + "layer.nondistributable.v1.tar",
    _DOCKER + "image.rootfs.foreign.diff.tar.gzip": _OCI + "layer.nondistributable.v1.tar+gzip",
}
"""OCI's name for each of Docker's types that an image may have."""


def is_statement(media_type: str) -> bool:
    """Return whether a layer is a statement about an image: an attestation of BuildKit, or a signature.

    Their manifests have configs like those of images, but no file system.
    """
    return media_type in _STATEMENTS


def tar_layer_type(compression: Compression) -> str:
    """Return the type of a tar layer with this compression.

    Raises:
        KeyError: No type says that.
    """
    suffixes = {found: suffix for suffix, found in _COMPRESSIONS.items()}
    return f"{_OCI}layer.v1.tar{suffixes[compression]}"


def find_compression(media_type: str) -> Compression | None:
    """Return how a tar layer of this type is compressed, or None for anything that is not a tar layer."""
    return _LAYERS.get(media_type)
