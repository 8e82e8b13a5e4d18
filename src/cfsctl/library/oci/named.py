"""Listing, naming, inspecting and checking the images of a repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.oci.base import OciBase
from cfsctl.library.opened import moving
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.events import Progress
    from cfsctl.library.oci.results import (
        LinkedImage,
        ListedOciImage,
        OciFsckReport,
        OciInspection,
        OciLinkedManifest,
    )
    from cfsctl.library.results import KeptTarget, RefChange
    from cfsctl.oci.store.image_refs import ImageKind
    from cfsctl.oci.store.listing import ImageSummary


_OCI = "oci"


class NamedImageMethods(OciBase):
    """What is done with images by their names.

    An `image` is a tag, the digest of a manifest or config, or a unique prefix of one.
    """

    @cancellable
    def images(self, *, progress: Progress | None = None) -> Iterator[ImageSummary]:
        """Yield the images that have a tag, sorted by tag.

        Args:
            progress: Called with a message for each image that cannot be read, and is skipped.
        """
        from cfsctl.oci.store.listing import Unreadable, iter_images

        report = make_reporter(progress)
        for image in iter_images(self._store):
            if isinstance(image, Unreadable):
                report(Message(f"{image.name}: skipped: {image.error}"))
            else:
                yield image

    def list_images(
        self, *, with_sizes: bool = False, progress: Progress | None = None
    ) -> list[ListedOciImage]:
        """Return the images that have a tag, sorted by tag, with more about each.

        Args:
            with_sizes: Find out how much each needs, which reads all that refs lead to.
            progress: Called with a message for each image that cannot be read, and is skipped.
        """
        from cfsctl.library.listed import count_kept, measure
        from cfsctl.library.oci.results import ListedOciImage
        from cfsctl.repository.names.tags import escape_tag

        kept = count_kept(self._store)
        sizes = measure(self._store) if with_sizes else {}
        return [
            ListedOciImage(
                summary=summary,
                kept=kept(_OCI, summary.name),
                sizes=sizes.get(f"streams/refs/{_OCI}/{escape_tag(summary.name)}"),
            )
            for summary in self.images(progress=progress)
        ]

    def inspect(self, image: str) -> OciInspection:
        """Return the documents of an image, and what was made of it.

        Raises:
            RepositoryError: There is no such image, or more than one.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.library.oci.results import OciInspection
        from cfsctl.oci.store.image_refs import find_image, plain_kind
        from cfsctl.oci.store.images import open_found, resolve
        from cfsctl.oci.store.referrers import list_referrers

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

    def tag(
        self,
        image: str,
        name: str,
        *,
        replace: bool = True,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> RefChange:
        """Give an image a tag, in place of what had it before.

        Args:
            image: The image.
            name: The tag.
            replace: Move the tag if another image has it.
            keep: Number of earlier images of the tag to keep; None leaves its history as it is.
            progress: Told which image had the tag before.

        Raises:
            InvalidNameError: The name cannot be a tag.
            RepositoryError: There is no such image, or more than one.
            RefExistsError: The tag belongs to an image, and may not be taken from it.
        """
        from cfsctl.library.kept import find_target
        from cfsctl.oci.store.images import set_tag
        from cfsctl.oci.store.names import check_tag
        from cfsctl.repository.history.kept import HistoryKey

        check_tag(name)
        old = find_target(self._store, HistoryKey(_OCI, name))
        with moving(self._repository, progress, replace=replace, keep=keep):
            digest = set_tag(self._store, image, name)
        from cfsctl.library.results import RefChange

        return RefChange(name, old, str(digest))

    def untag(self, name: str) -> RefChange:
        """Remove a tag and its history; images stay until garbage is collected.

        Raises:
            RepositoryError: There is no such tag.
        """
        from cfsctl.library.kept import find_target
        from cfsctl.oci.store.images import remove_tag
        from cfsctl.oci.store.names import is_tag_name
        from cfsctl.repository.history.changes import forget_history
        from cfsctl.repository.history.kept import HistoryKey

        key = HistoryKey(_OCI, name)
        old = find_target(self._store, key) if is_tag_name(name) else None
        forgotten = 0 if old is None else forget_history(self._store, key)
        remove_tag(self._store, name)
        from cfsctl.library.results import RefChange

        return RefChange(name, old, None, forgotten)

    def rename(self, name: str, new: str) -> RefChange:
        """Give a tag another name; its history goes along.

        Raises:
            RefNotFoundError: There is no such tag.
            RefExistsError: The new name belongs to another image.
            InvalidNameError: The new name cannot be a tag.
        """
        from cfsctl.oci.store.names import check_tag
        from cfsctl.repository.history.changes import rename
        from cfsctl.repository.history.kept import HistoryKey
        from cfsctl.repository.history.moves import describe_target

        entry = rename(self._store, HistoryKey(_OCI, name), HistoryKey(_OCI, check_tag(new)))
        target = describe_target(self._store, _OCI, entry)
        from cfsctl.library.results import RefChange

        return RefChange(new, target, target)

    def roll_back(self, name: str, to: str | None = None, *, progress: Progress | None = None) -> RefChange:
        """Set a tag to the image that it named before; what it names now is kept, so that this can be undone.

        Args:
            name: The tag.
            to: The digest of a kept manifest or a prefix of it; None is the latest.
            progress: Told if the image that the tag leaves is damaged, and so is not kept.

        Raises:
            RefNotFoundError: There is no such tag.
            NothingKeptError: No such image is kept.
        """
        from cfsctl.library.kept import roll_back

        return roll_back(self._store, _OCI, name, to, progress)

    def history(self, name: str) -> list[KeptTarget]:
        """Return the current image of a tag and the earlier ones that are kept, latest first.

        Raises:
            RefNotFoundError: There is no such tag, and no history of it.
        """
        from cfsctl.library.kept import list_history

        return list_history(self._store, _OCI, name)

    def find_image(self, image: str, *, bootable: bool = False) -> ObjectID:
        """Return the file system image that was made of an image.

        Args:
            image: The image.
            bootable: Return the boot image.

        Raises:
            RepositoryError: There is no such image, or no file system image was made of it.
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.oci.store.image_refs import linked_image
        from cfsctl.oci.store.images import open_config, resolve

        store = self._store
        refs = open_config(store, resolve(store, image)).document.refs
        return ObjectID(linked_image(refs, store.erofs_versions[0], bootable=bootable))

    def linked_images(self, image_id: ObjectID, *, progress: Progress | None = None) -> list[LinkedImage]:
        """Return all file system images of the OCI image that one of them was made of.

        Args:
            image_id: One of them.
            progress: Told which images cannot be read.

        Raises:
            RepositoryError: It was made of no stored image.
        """
        from cfsctl.oci.store.listing import find_linked_images

        return [*map(_linked, find_linked_images(self._store, image_id, make_reporter(progress)))]

    def linked_manifests(
        self, image_id: ObjectID, *, progress: Progress | None = None
    ) -> list[OciLinkedManifest]:
        """Return all OCI images that a file system image was made of, by ascending digests.

        Args:
            image_id: The file system image.
            progress: Told which images cannot be read.

        Raises:
            RepositoryError: It was made of no stored image.
        """
        from cfsctl.library.oci.results import OciLinkedManifest
        from cfsctl.oci.store.listing import find_linked_manifests

        return [
            OciLinkedManifest(found.digest, found.tags, tuple(map(_linked, found.images)))
            for found in find_linked_manifests(self._store, image_id, make_reporter(progress))
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
        from cfsctl.library.oci.results import OciFsckReport
        from cfsctl.oci.check import check_images
        from cfsctl.repository.check.fsck import check_repository

        whole = check_repository(self._store, deep=deep, reporter=make_reporter(progress))
        return OciFsckReport(repository=whole, images=check_images(self._store, image, deep=deep))


def _linked(found: tuple[ImageKind, ObjectID]) -> LinkedImage:
    from cfsctl.library.oci.results import LinkedImage

    kind, image_id = found
    return LinkedImage(ObjectID(image_id), kind.is_bootable, kind.is_version_2, kind.xattr_filter)


def _printable(image_id: ObjectID | None) -> ObjectID | None:
    return None if image_id is None else ObjectID(image_id)
