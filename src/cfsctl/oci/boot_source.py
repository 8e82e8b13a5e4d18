"""A stored OCI image as a source of boot entries."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.boot.contents import content_reader
from cfsctl.boot.entries import find_boot_entries
from cfsctl.boot.image_source import find_missing, read_labels, read_os_release
from cfsctl.boot.prepare import ImageSet
from cfsctl.boot.transform import make_bootable
from cfsctl.erofs.format import FormatVersion
from cfsctl.oci.boot_images import keep_replaced
from cfsctl.oci.store.blobs import find_kept
from cfsctl.oci.store.image_refs import ImageKind
from cfsctl.oci.store.images import find_manifests, open_image
from cfsctl.oci.store.names import CONFIG_REF
from cfsctl.oci.store.publish import ImageNames, build, keep_image_refs
from cfsctl.oci.to_tree import image_tree
from cfsctl.repository.objects.store import StoredObject
from cfsctl.repository.publish import publish

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.boot.entries import BootEntry
    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.documents import StoredDocument
    from cfsctl.oci.store.images import StoredConfig, StoredImage
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem


class OciBootSource:
    """The boot images of an OCI image.

    Attributes:
        entries: Its boot entries.
        os_release: Values of its os-release.
        labels: SELinux labels of directories at its top, after the boot transformation.
        missing: Mount points that it lacks.
    """

    def __init__(
        self,
        repository: Repository,
        config: StoredConfig,
        manifest: OciDigest | None,
        *,
        may_change_config: bool = True,
    ) -> None:
        """Read the image.

        Args:
            repository: Where it is stored.
            config: Its config.
            manifest: Its manifest, or None if that is not known.
            may_change_config: Let the config's stream name the boot images.

        Raises:
            FormatError: A boot entry or the SELinux policy is malformed.
            NotBootableError: It lacks a directory.
        """
        self._repository = repository
        self._config = config
        self._manifest = manifest
        self._may_change_config = may_change_config
        self._built: dict[ObjectID, bytes | bytearray] = {}
        reader = content_reader(repository)
        tree = image_tree(repository, config.layers())
        self.entries: Sequence[BootEntry] = find_boot_entries(tree, reader)
        self.os_release: Mapping[str, str] = read_os_release(tree, reader)
        self.missing: Sequence[str] = find_missing(tree)
        self._tree: FileSystem | None = tree
        self.labels: Mapping[str, bytes] = {}

    def images(self) -> ImageSet:
        """Return the boot images, one for each format that the repository is set up for."""
        tree = self._tree or image_tree(self._repository, self._config.layers())
        self._tree = None
        return self._build(tree, keep_nanoseconds=False)

    def find_older(self, image_id: ObjectID) -> ImageSet | None:
        """Return the boot images by the rule of releases before 0.9.4 if this is one of them."""
        tree = image_tree(self._repository, self._config.layers())
        images = self._build(tree, keep_nanoseconds=True)
        if image_id not in images.by_version.values():
            return None
        note = (
            f"the command line names the boot image {image_id.hex()}, which is made by the rule of releases"
            " before 0.9.4"
        )
        return images._replace(note=note)

    def _build(self, tree: FileSystem, *, keep_nanoseconds: bool) -> ImageSet:
        make_bootable(tree, content_reader(self._repository), keep_nanoseconds=keep_nanoseconds)
        self.labels = read_labels(tree)
        by_version = {}
        for version in self._repository.erofs_versions:
            image_id, data = build(tree, version, self._repository.algorithm)
            by_version[version] = image_id
            self._built[image_id] = data
        return ImageSet(by_version)

    def publish(self, images: ImageSet) -> None:
        """Store the images and name them, also in the config's stream."""
        repository = self._repository
        for image_id in images.by_version.values():
            repository.objects.ensure_bytes(self._built[image_id])
        self._built.clear()
        image = self._find_image()
        if image is None:
            publish(repository, images=images.by_version.values())
            return
        old = keep_image_refs(image.config_document.refs)
        new = old | {
            ImageKind(version is FormatVersion.V2, is_bootable=True).ref: image_id
            for version, image_id in images.by_version.items()
        }
        if new == old:
            publish(repository, images=images.by_version.values())
            return
        keep_replaced(repository, old, new)
        names = ImageNames(
            repository,
            (image.digest, _stored(repository, image.manifest_document)),
            (self._config.digest, _stored(repository, image.config_document)),
            dict(self._config.layers()),
            find_kept(repository, image.digest),
        )
        names.write(new)
        names.publish(None)

    def _find_image(self) -> StoredImage | None:
        """Return the manifest and config whose streams can name the images, or None."""
        if not self._may_change_config:
            return None
        digest = self._manifest
        if digest is None:
            found = find_manifests(self._repository, f"{CONFIG_REF}{self._config.digest}")
            digest = found[0] if found else None
        return None if digest is None else open_image(self._repository, digest)


def _stored(repository: Repository, document: StoredDocument) -> StoredObject:
    status = repository.objects.stat(document.object_id)
    size = len(document.data) if status is None else status.st_size
    return StoredObject(document.object_id, size, is_new=False)
