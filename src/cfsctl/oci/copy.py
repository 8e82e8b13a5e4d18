"""Copy a stored image or artifact to another repository, of whichever hash.

A copy is a pull: every digest is verified on the way, layers that are stored are not read, images are rebuilt
from the layers, and the tag moves last. Boot images that the original has are made as well.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from cfsctl.errors import RepositoryError
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.sources.stored import StoredSource
from cfsctl.oci.store.image_refs import list_images
from cfsctl.oci.store.images import open_found, open_image, resolve
from cfsctl.progress import silent
from cfsctl.repository.objects.sharing import Sharing

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class ZeroCopyError(RepositoryError):
    """Two repositories that cannot share objects."""


def copy_image(
    source: Repository,
    target: Repository,
    text: str,
    tag: str | None = None,
    *,
    zerocopy: bool = False,
    reporter: Reporter = silent,
) -> PullResult:
    """Copy an image or artifact.

    Args:
        source: Where it is stored.
        target: Where it goes.
        text: What a user types to name the image.
        tag: The tag to move to it in the target, or None.
        zerocopy: Share objects by reflinks or hard links, and fail where that is impossible. Otherwise they
            are shared by reflinks where that is possible.
        reporter: Told how far each layer is.

    Raises:
        ZeroCopyError: The repositories have different hashes, so that they cannot share objects.
        InvalidNameError: The tag cannot be one; nothing was read.
        OciNotFoundError, AmbiguousDigestError: The text names no image, or several.
        IntegrityError, FormatError: Something in the source is damaged; it has no name in the target then.
        OSError: Something could not be read or stored.
    """
    if zerocopy:
        check_zerocopy(source, target)
    image = open_found(source, resolve(source, text))
    return copy_opened(source, target, image, tag, zerocopy=zerocopy, reporter=reporter)


def check_zerocopy(source: Repository, target: Repository) -> None:
    """Refuse to share objects between repositories of different hashes.

    Raises:
        ZeroCopyError: They are.
    """
    if source.algorithm is not target.algorithm:
        names = [algorithm.hash_name.capitalize() for algorithm in (source.algorithm, target.algorithm)]
        raise ZeroCopyError(
            "--zerocopy requires matching hash algorithms;"
            f" source uses {names[0]} but destination uses {names[1]}",
            hint="leave --zerocopy out",
        )


def copy_opened(
    source: Repository,
    target: Repository,
    image: StoredImage,
    tag: str | None,
    *,
    zerocopy: bool = False,
    workers: int | None = None,
    as_it_is: bool = False,
    reporter: Reporter = silent,
) -> PullResult:
    """Copy an image that was found; see `copy_image`, and `pull` for `as_it_is`."""
    boot_images = {
        kind.ref: image_id for kind, image_id in list_images(image.config_document.refs) if kind.is_bootable
    }
    stored = StoredSource(source, image, f"image {image.digest} of {source.path}")

    def run(expected: ObjectID | None) -> PullResult:
        return pull(
            target,
            stored,
            tag,
            bootable=bool(boot_images),
            expected=expected,
            workers=workers,
            keep_compressed=image.manifest.is_container and stored.has_blobs,
            sharing=Sharing.REQUIRED if zerocopy else Sharing.REFLINK,
            as_it_is=as_it_is,
            reporter=reporter,
        )

    result = run(None)
    for image_id in _list_missing(source, target, image.digest, boot_images):
        # Made by other rules or with other attributes than usual: looked for, as nothing proves a copy of it.
        again = run(image_id)
        result = replace(result, manifest_id=again.manifest_id, config_id=again.config_id)
    return result


def _list_missing(
    source: Repository, target: Repository, digest: OciDigest, boot_images: dict[str, ObjectID]
) -> list[ObjectID]:
    """Return the boot images of the original that its copy lacks, if IDs mean the same there."""
    if source.algorithm is not target.algorithm or not boot_images:
        return []
    found = set(open_image(target, digest).config_document.refs.values())
    return [image_id for image_id in dict.fromkeys(boot_images.values()) if image_id not in found]
