"""From trees to images: their IDs, and the images of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.fsverity.merkle import compute_digest
from cfsctl.repository.names.names import check_new_ref
from cfsctl.repository.publish import make_images, publish
from cfsctl.tree.model import ExternalFile
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.repository import Repository
    from cfsctl.repository.publish import KnownImages
    from cfsctl.tree.model import FileSystem


def compute_image_id(filesystem: FileSystem, version: FormatVersion, algorithm: Algorithm) -> ObjectID:
    """Return the ID that the image of a tree has, without storing anything.

    Raises:
        ErofsError: The tree does not fit into an image.
    """
    from cfsctl.erofs.write.image import build_image

    return compute_digest(build_image(filesystem, version), algorithm)


def build_images(
    repository: Repository,
    filesystem: FileSystem,
    ref: str | None = None,
    *,
    known: KnownImages | None = None,
) -> ObjectID:
    """Store the image of a tree in each of the repository's formats, and name the default one.

    The objects that the tree refers to must be in the repository. They and the images are behind one
    barrier before anything is named.

    Args:
        repository: The repository, open.
        filesystem: The tree.
        ref: A ref for the image in the default format, or None.
        known: See `make_images`.

    Returns:
        The ID of the image in the default format.

    Raises:
        ErofsError: The tree does not fit into an image.
        InvalidNameError: The ref cannot be one; nothing was stored.
    """
    if ref is not None:
        check_new_ref(ref, "image name")
    stored = list(make_images(repository, filesystem, known).values())
    # An image that was known to be sound came with the knowledge about its objects.
    knows_nothing_new = not (any(image.is_new for image in stored) or repository.verified.has_news)
    nodes = () if knows_nothing_new else iter_nodes(filesystem)
    files = [node.object_id for node in nodes if isinstance(node, ExternalFile)]
    publish(repository, images=[image.object_id for image in stored[1:]], noting=files)
    repository.images.link(stored[0].object_id, ref)
    repository.save_marks(image.object_id for image in stored)
    return stored[0].object_id
