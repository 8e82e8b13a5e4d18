"""Listing, naming, inspecting and checking the images of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.events import Progress
    from cfsctl.library.oci.results import LinkedImage, OciFsckReport, OciInspection
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.listing import ImageSummary


class NamedImageMethods(OciBase):
    """What is done with images by their names.

    An `image` is a tag, the digest of a manifest or config, or the unique beginning of one.
    """

    @cancellable
    def images(self, *, progress: Progress | None = None) -> Iterator[ImageSummary]:
        """Yield the images that have a tag, sorted by tag.

        Args:
            progress: Called with a message for each image that cannot be read, and is skipped.
        """
        from cfsctl.oci.store.listing import Unreadable, iter_images  # noqa: PLC0415 - only where it is needed

        report = make_reporter(progress)
        for image in iter_images(self._store):
            if isinstance(image, Unreadable):
                report(Message(f"{image.name}: skipped: {image.error}"))
            else:
                yield image

    def inspect(self, image: str) -> OciInspection:
        """Return the documents of an image, and what was made of it.

        Raises:
            RepositoryError: There is no such image, or more than one.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.library.oci.results import OciInspection  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.store.image_refs import find_image, plain_kind  # noqa: PLC0415 - the same
        from cfsctl.oci.store.images import open_found, resolve  # noqa: PLC0415 - the same
        from cfsctl.oci.store.referrers import list_referrers  # noqa: PLC0415 - the same

        store = self._store
        stored = open_found(store, resolve(store, image))
        refs = stored.config_document.refs
        kind = plain_kind(store.erofs_versions[0])
        return OciInspection(
            digest=stored.digest,
            manifest=stored.manifest_document.data,
            config=stored.config_document.data,
            manifest_stream=ObjectID(stored.manifest_document.stream_id),
            config_stream=ObjectID(stored.config_document.stream_id),
            referrers=tuple(list_referrers(store, stored.digest)),
            image=_printable(find_image(refs, kind)),
            boot_image=_printable(find_image(refs, kind._replace(is_bootable=True))),
        )

    def tag(self, image: str, name: str) -> OciDigest:
        """Give an image a tag, in place of what had it before; return the digest of its manifest.

        Raises:
            InvalidNameError: The name cannot be a tag.
            RepositoryError: There is no such image, or more than one.
        """
        from cfsctl.oci.store.images import set_tag  # noqa: PLC0415 - only where it is needed

        return set_tag(self._store, image, name)

    def untag(self, name: str) -> None:
        """Remove a tag; its image stays until garbage is collected.

        Raises:
            RepositoryError: There is no such tag.
        """
        from cfsctl.oci.store.images import remove_tag  # noqa: PLC0415 - only where it is needed

        remove_tag(self._store, name)

    def find_image(self, image: str, *, bootable: bool = False) -> ObjectID:
        """Return the file system image that was made of an image.

        Args:
            image: The image.
            bootable: Return the boot image.

        Raises:
            RepositoryError: There is no such image, or no file system image was made of it.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.oci.store.image_refs import linked_image  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.store.images import open_config, resolve  # noqa: PLC0415 - the same

        store = self._store
        refs = open_config(store, resolve(store, image)).document.refs
        return ObjectID(linked_image(refs, store.erofs_versions[0], bootable=bootable))

    def linked_images(self, image_id: ObjectID) -> list[LinkedImage]:
        """Return all file system images of the OCI image that one of them was made of.

        Raises:
            RepositoryError: It was made of no stored image.
        """
        from cfsctl.library.oci.results import LinkedImage  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.store.listing import find_linked_images  # noqa: PLC0415 - the same

        return [
            LinkedImage(ObjectID(found), kind.is_bootable, kind.is_version_2, kind.xattr_filter)
            for kind, found in find_linked_images(self._store, image_id)
        ]

    @cancellable
    def fsck(
        self, image: str | None = None, *, deep: bool = False, progress: Progress | None = None
    ) -> OciFsckReport:
        """Check the whole repository, then all images that have a tag, or only one; nothing is changed.

        Args:
            image: The only image to check; one that does not exist is a finding.
            deep: Read all content, compare each layer with its digest, and make the file system images again.
            progress: Told how many parts have been checked.
        """
        from cfsctl.library.oci.results import OciFsckReport  # noqa: PLC0415 - only where it is needed
        from cfsctl.oci.check import check_images  # noqa: PLC0415 - the same
        from cfsctl.repository.check.fsck import check_repository  # noqa: PLC0415 - the same

        whole = check_repository(self._store, deep=deep, reporter=make_reporter(progress))
        return OciFsckReport(repository=whole, images=check_images(self._store, image, deep=deep))


def _printable(image_id: ObjectID | None) -> ObjectID | None:
    return None if image_id is None else ObjectID(image_id)
