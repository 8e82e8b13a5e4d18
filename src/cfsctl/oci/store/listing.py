"""Listings: images by tag, and the file system images of one OCI image."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import CfsError, RefNotFoundError, describe
from cfsctl.oci.store.image_refs import list_images
from cfsctl.oci.store.images import config_of, open_image
from cfsctl.oci.store.index_names import iter_platforms
from cfsctl.oci.store.indexes import open_index
from cfsctl.oci.store.names import INDEX_TAGS, MANIFEST, TAGS, iter_digests
from cfsctl.oci.store.referrers import list_referrers
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.image_refs import ImageKind
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class ImageIdNotFoundError(RefNotFoundError):
    """An ID that no stored image was made with."""


class ImageSummary(NamedTuple):
    """A line of a list.

    Attributes:
        name: The tag.
        digest: The manifest.
        is_container: Whether it has a file system.
        architecture: What it runs on, or empty.
        os: The same.
        created: When it was made, as it says, or None.
        layer_count: Its layers.
        referrer_count: Artifacts about it.
        platforms: Of an index, what its images run on; None for anything else.
    """

    name: str
    digest: OciDigest
    is_container: bool
    architecture: str
    os: str
    created: str | None
    layer_count: int
    referrer_count: int
    platforms: tuple[str, ...] | None = None

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON, in the order of its keys."""
        return {
            "name": self.name,
            "manifest_digest": str(self.digest),
            "is_container": self.is_container,
            "architecture": self.architecture,
            "os": self.os,
            "created": self.created,
            "layer_count": self.layer_count,
            "referrer_count": self.referrer_count,
        }


class Unreadable(NamedTuple):
    """A tag whose image cannot be read.

    Attributes:
        name: The tag.
        error: Why.
    """

    name: str
    error: CfsError | OSError


def iter_images(repository: Repository) -> Iterator[ImageSummary | Unreadable]:
    """Yield all images and indexes that have a tag, sorted by it."""
    streams = repository.streams
    found = [(tag.name, tag.target, _summarise) for tag in TAGS.list(streams)]
    found += [(tag.name, tag.target, _summarise_index) for tag in INDEX_TAGS.list(streams)]
    for name, digest, summarise in sorted(found, key=lambda entry: entry[0]):
        try:
            yield summarise(repository, name, digest)
        except (CfsError, OSError) as error:
            yield Unreadable(name, error)


def _summarise_index(repository: Repository, name: str, digest: OciDigest) -> ImageSummary:
    layers: set[OciDigest] = set()
    platforms = []
    for descriptor, platform in iter_platforms(repository, open_index(repository, digest)):
        layers.update(layer.digest for layer in open_image(repository, descriptor.digest).manifest.layers)
        platforms.append("artifact" if platform is None else str(platform))
    return ImageSummary(
        name,
        digest,
        is_container=False,
        architecture="",
        os="",
        created=None,
        layer_count=len(layers),
        referrer_count=len(list_referrers(repository, digest)),
        platforms=tuple(platforms),
    )


def _summarise(repository: Repository, name: str, digest: OciDigest) -> ImageSummary:
    image = open_image(repository, digest)
    architecture, os_name, created = "", "", None
    if image.manifest.is_container:
        config = config_of(image).config
        architecture, os_name, created = config.platform.architecture, config.platform.os, config.created
    return ImageSummary(
        name,
        image.digest,
        image.manifest.is_container,
        architecture,
        os_name,
        created,
        len(image.manifest.layers),
        len(list_referrers(repository, image.digest)),
    )


class LinkedManifest(NamedTuple):
    """A stored image that a file system image was made of.

    Attributes:
        digest: Its manifest.
        tags: Its tags, sorted.
        images: All file system images that were made of it.
    """

    digest: OciDigest
    tags: tuple[str, ...]
    images: list[tuple[ImageKind, ObjectID]]


def iter_linked_manifests(
    repository: Repository, image_id: ObjectID, reporter: Reporter = silent
) -> Iterator[LinkedManifest]:
    """Yield the stored images that a file system image belongs to, by ascending digests.

    Args:
        repository: Where they are stored.
        image_id: The file system image.
        reporter: Told which manifests cannot be read: the image may belong to one of these.
    """
    tags: dict[OciDigest, list[str]] = {}
    for tag in TAGS.list(repository.streams):
        tags.setdefault(tag.target, []).append(tag.name)
    for digest in iter_digests(repository, MANIFEST):
        try:
            images = list_images(open_image(repository, digest).config_document.refs)
        except (CfsError, OSError) as error:
            reporter(Message(f"skipping manifest {digest}: {describe(error)}"))
            continue
        if any(found == image_id for _, found in images):
            yield LinkedManifest(digest, tuple(tags.get(digest, ())), images)


def find_linked_images(
    repository: Repository, image_id: ObjectID, reporter: Reporter = silent
) -> list[tuple[ImageKind, ObjectID]]:
    """Return all file system images of the stored image that one of them belongs to.

    Args:
        repository: Where they are stored.
        image_id: One of them.
        reporter: Told which manifests cannot be read: the image may belong to one of these.

    Raises:
        ImageIdNotFoundError: It belongs to none.
    """
    return find_linked_manifests(repository, image_id, reporter, only_first=True)[0].images


def find_linked_manifests(
    repository: Repository, image_id: ObjectID, reporter: Reporter = silent, *, only_first: bool = False
) -> list[LinkedManifest]:
    """Return the stored images that a file system image belongs to; see `iter_linked_manifests`.

    Raises:
        ImageIdNotFoundError: It belongs to none.
    """
    found = iter_linked_manifests(repository, image_id, reporter)
    linked = list(islice(found, 1) if only_first else found)
    if not linked:
        raise ImageIdNotFoundError(
            f"image not found: {image_id.hex()}", hint="no stored OCI image has this image"
        )
    return linked
