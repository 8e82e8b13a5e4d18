"""Publish stored content: make the images, sync everything, and only then set names.

    images, streams ─▶ one barrier ─▶ names of images ─▶ names of streams, each with its ref last

If this is killed at any point, it leaves unnamed objects, but never a name that leads to missing content.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.repository.objects.store import StoredObject
    from cfsctl.repository.repository import Repository
    from cfsctl.tree.model import FileSystem


class NewStream(NamedTuple):
    """A stream that gets a name.

    Attributes:
        name: Content identifier.
        object_id: The splitstream object.
        ref: A ref to move to it as well, or None.
    """

    name: str
    object_id: ObjectID
    ref: str | None = None


class KnownImages(Protocol):
    """The images of a tree, as far as they are known."""

    def recall(self, version: FormatVersion, /) -> tuple[bytes, ObjectID] | None:
        """Return the image in a format and its ID, which is its digest, or None."""

    def remember(self, version: FormatVersion, image: StoredObject, /) -> None:
        """Take the image in a format."""


def make_images(
    repository: Repository, filesystem: FileSystem, known: KnownImages | None = None
) -> dict[FormatVersion, StoredObject]:
    """Make and store the image of a tree in each format that the repository is set up for.

    Naming them, behind the barrier, is the caller's.

    Args:
        repository: Where.
        filesystem: The tree.
        known: Images that need not be built; gets those that were.

    Returns:
        The images by format, the default format first.

    Raises:
        ErofsError: No image can hold the tree.
    """
    from cfsctl.erofs.write.image import build_image  # most uses find what they need

    images: dict[FormatVersion, StoredObject] = {}
    for version in repository.erofs_versions:
        found = None if known is None else known.recall(version)
        # An image that is known is stored like one that was built: it may be gone, or damaged, by now.
        content, image_id = found or (build_image(filesystem, version), None)
        images[version] = repository.objects.ensure_bytes(content, image_id)
        if known is not None:
            known.remember(version, images[version])
    return images


def publish(
    repository: Repository,
    *,
    images: Iterable[ObjectID] = (),
    streams: Iterable[NewStream] = (),
    noting: Iterable[ObjectID] = (),
) -> None:
    """Make everything durable that was written, and only then name images and streams, in this order.

    Args:
        repository: Where.
        images: IDs of images.
        streams: Streams, with everything that they refer to stored.
        noting: Objects that `Repository.remember` looks at while the disk is waited for.
    """
    repository.sync(noting)
    name_all(repository, images, streams)


def name_all(
    repository: Repository, images: Iterable[ObjectID] = (), streams: Iterable[NewStream] = ()
) -> None:
    """Name images and streams that are behind the barrier; the names are durable afterwards."""
    images, streams = list(images), list(streams)
    for image in images:
        repository.images.link(image)
    if images:
        # Streams lead to images, so after a power failure a stream must not be there without its image.
        repository.images.links.sync_entries()
    for stream in streams:
        repository.streams.link(*stream)
    if any(stream.ref is None for stream in streams):
        repository.streams.links.sync_entries()
