"""Repositories of a registry that may already have the blobs of an image that is pushed.

They are guessed from the tags: an image that was pulled without a name has the tag ``docker://HOST/PATH:TAG``.
The annotation for the name of an image's base is looked at too. A wrong guess costs one request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.registry.names import parse_image_name
from cfsctl.oci.store.images import open_image
from cfsctl.oci.store.names import TAGS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.registry.names import ImageName
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.repository import Repository

_PREFIX: Final = "docker://"
_BASE: Final = "org.opencontainers.image.base.name"
_MAX_GUESSES: Final = 2
"""Repositories that are named for one blob."""


def find_mounts(repository: Repository, image: StoredImage, host: str) -> dict[str, list[str]]:
    """Return paths of repositories that may have blobs of an image, by the digest of the blob.

    Args:
        repository: Where the image is stored.
        image: The image.
        host: The registry that it goes to.
    """
    found: dict[str, list[str]] = {}
    base = _parse(image.manifest.annotations.get(_BASE, ""))
    blobs = {str(layer.digest) for layer in image.manifest.layers} | {str(image.manifest.config.digest)}
    for name, known in _iter_known(repository, host):
        for digest in blobs & known:
            _add(found.setdefault(digest, []), name)
    if base is not None and base.host == host:
        for digest in blobs:
            _add(found.setdefault(digest, []), base)
    return found


def _add(paths: list[str], name: ImageName) -> None:
    if name.path not in paths and len(paths) < _MAX_GUESSES:
        paths.append(name.path)


def _iter_known(repository: Repository, host: str) -> Iterator[tuple[ImageName, set[str]]]:
    """Yield images of a registry that are stored by their names, with the digests of their blobs."""
    for tag in TAGS.list(repository.streams):
        name = _parse(tag.name.removeprefix(_PREFIX)) if tag.name.startswith(_PREFIX) else None
        if name is None or name.host != host:
            continue
        try:
            manifest = open_image(repository, tag.target).manifest
        except (CfsError, OSError):
            continue  # which is for a check to tell
        yield name, {str(layer.digest) for layer in manifest.layers} | {str(manifest.config.digest)}


def _parse(text: str) -> ImageName | None:
    try:
        return parse_image_name(text) if text else None
    except FormatError:
        return None
