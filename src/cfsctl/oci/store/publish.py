"""Publish a changed OCI image: write streams and file system images, then set names.

    tree ─▶ images ─▶ config stream ─▶ manifest streams ─▶ barrier ─▶ names ─▶ tag

A config's stream names the images that were made of it, and a manifest's stream names its config by the ID of
that stream. So a new image means a new config stream, and new streams of all manifests that share the config.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.erofs.format import ErofsError, FormatVersion
from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.store.documents import find_only_object, write_document
from cfsctl.oci.store.image_refs import KINDS, ImageKind, is_image_ref, plain_kind
from cfsctl.oci.store.indexes import rewrite_indexes
from cfsctl.oci.store.names import CONFIG, CONFIG_REF, LAYER, MANIFEST, TAGS, iter_digests
from cfsctl.repository.objects.store import StoredObject
from cfsctl.repository.publish import NewStream, make_images, publish
from cfsctl.splitstream.format import ContentType, SplitstreamError
from cfsctl.tree.transform import XattrFilter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem


class ImageNames:
    """What is written of one image, and the names that it will get.

    Attributes:
        manifest_id: The manifest's splitstream object, once it was written.
        config_id: The config's.
    """

    def __init__(
        self,
        repository: Repository,
        manifest: tuple[OciDigest, StoredObject],
        config: tuple[OciDigest, StoredObject],
        layers: Mapping[OciDigest, ObjectID],
        blobs: Mapping[str, ObjectID] | None = None,
        *,
        is_container: bool = True,
    ) -> None:
        """Write nothing yet.

        Args:
            repository: Where.
            manifest: Digest and object of the manifest.
            config: Digest and object of the config.
            layers: Stream by digest; of equal layers there is one.
            blobs: Kept blobs by the names that the manifest's stream has for them.
            is_container: Whether it is an image; artifacts with the same config may have other layers.
        """
        self._repository = repository
        self._manifest = manifest
        self._config = config
        self._layers = {str(digest): stream_id for digest, stream_id in layers.items()}
        self._entries: dict[str, ObjectID] = {LAYER + name: layer for name, layer in self._layers.items()}
        self._blobs = dict(sorted((blobs or {}).items()))
        self._images: list[ObjectID] = []
        self._is_container = is_container
        self.manifest_id: ObjectID
        self.config_id: ObjectID

    def write(self, image_refs: Mapping[str, ObjectID]) -> None:
        """Write the streams of config and manifest, and of other manifests with the same config.

        Args:
            image_refs: Images by the names that the config's stream has for them.
        """
        repository, (config_digest, config) = self._repository, self._config
        ordered = {kind.ref: image_refs[kind.ref] for kind in KINDS if kind.ref in image_refs}
        self._images = [*dict.fromkeys(ordered.values())]
        refs = self._layers | ordered
        shared = None if self._is_container else self._find_config()
        self.config_id = shared or write_document(repository, ContentType.OCI_CONFIG, config, refs)
        self._entries[f"{CONFIG}{config_digest}"] = self.config_id
        digest, manifest = self._manifest
        refs = {f"{CONFIG_REF}{config_digest}": self.config_id, **self._layers, **self._blobs}
        self.manifest_id = write_document(repository, ContentType.OCI_MANIFEST, manifest, refs)
        self._entries[f"{MANIFEST}{digest}"] = self.manifest_id
        self._rewrite_others(f"{CONFIG_REF}{config_digest}", digest)
        self._entries |= rewrite_indexes(repository, self._entries)

    def _find_config(self) -> ObjectID | None:
        """Return the config's stream as it is stored, if all that it refers to is there.

        As for the original, it goes on naming the layers of the artifact that came first with it.
        """
        repository = self._repository
        stream_id = repository.streams.find(f"{CONFIG}{self._config[0]}")
        if stream_id is None:
            return None
        try:
            with repository.streams.open_object(stream_id, ContentType.OCI_CONFIG) as reader:
                needed = [find_only_object(reader), *reader.named_refs.values()]
        except (CfsError, OSError):
            return None  # written again, which heals it
        return None if repository.objects.find_missing(needed) else stream_id

    def _rewrite_others(self, config_ref: str, done: OciDigest) -> None:
        """Update all other manifests of this config to the config's new stream."""
        repository = self._repository
        for digest in iter_digests(repository, MANIFEST):
            name = f"{MANIFEST}{digest}"
            object_id = repository.streams.find(name)
            if digest == done or object_id is None:
                continue
            try:
                with repository.streams.open_object(object_id, ContentType.OCI_MANIFEST) as reader:
                    refs = dict(reader.named_refs)
                    if refs.get(config_ref) in {None, self.config_id}:
                        continue
                    document = find_only_object(reader)
            except (SplitstreamError, IntegrityError):
                continue  # which is for a check to tell
            status = repository.objects.stat(document)
            if status is None:
                continue
            stored = StoredObject(document, status.st_size, is_new=False)
            # References are written in the order of layers, which the stream does not keep: any order will
            # do.
            refs = {config_ref: self.config_id} | {
                key: refs[key] for key in sorted(refs) if key != config_ref
            }
            self._entries[name] = write_document(repository, ContentType.OCI_MANIFEST, stored, refs)

    def publish(self, tag: str | None) -> None:
        """Make everything durable and name it, the tag last.

        Args:
            tag: The tag to move to the manifest, or None.
        """
        repository = self._repository
        new = {n: i for n, i in self._entries.items() if repository.streams.find(n) != i}
        images = [i for i in self._images if repository.images.find(i.hex()) is None]
        if new or images:
            publish(repository, images=images, streams=[NewStream(*found) for found in new.items()])
        if tag is not None:
            repository.streams.set_ref(TAGS.ref(tag), f"{MANIFEST}{self._manifest[0]}")
        repository.save_marks((*self._images, *new.values()))


def store_images(
    repository: Repository,
    filesystem: FileSystem,
    *,
    is_bootable: bool = False,
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
) -> dict[str, ObjectID]:
    """Make and store the image of a tree in each format that the repository is set up for.

    Naming them, behind the barrier, is the caller's.

    Args:
        repository: Where.
        filesystem: The tree, as it is to be.
        is_bootable: Whether it was made bootable.
        xattr_filter: Which attributes it has.

    Returns:
        ID by the name that a config's stream has for it.

    Raises:
        ErofsError: No image can hold the tree.
    """
    return {
        ImageKind(version is FormatVersion.V2, is_bootable, xattr_filter).ref: image.object_id
        for version, image in make_images(repository, filesystem).items()
    }


def build(
    filesystem: FileSystem, version: FormatVersion, algorithm: Algorithm
) -> tuple[ObjectID, bytes | bytearray]:
    """Return the image of a tree and its ID, without storing it.

    Raises:
        ErofsError: No image can hold the tree.
    """
    from cfsctl.erofs.write.image import build_image  # most uses find what they need
    from cfsctl.fsverity.merkle import compute_digest

    data = build_image(filesystem, version)
    return compute_digest(data, algorithm), data


def compute_image(filesystem: FileSystem, kind: ImageKind, algorithm: Algorithm) -> set[ObjectID]:
    """Return the IDs that the image of a tree may have, in each format that a kind stands for."""
    versions = (FormatVersion.V2,) if kind.is_version_2 else (FormatVersion.V1, FormatVersion.V0)
    return {build(filesystem, version, algorithm)[0] for version in versions}


def has_all_images(repository: Repository, refs: Mapping[str, ObjectID]) -> bool:
    """Return whether a config names a sound image for each format that the repository is set up for."""
    return all(
        has_image(repository, refs.get(plain_kind(version).ref), version)
        for version in repository.erofs_versions
    )


def has_image(repository: Repository, image_id: ObjectID | None, version: FormatVersion) -> bool:
    """Return whether an image is stored, has an entry, and has this format."""
    if image_id is None or repository.images.find(image_id.hex()) is None:
        return False
    if not repository.objects.is_sound(image_id):
        return False
    from cfsctl.erofs.superblock import read_superblock

    try:
        with repository.images.map(image_id.hex()) as data:
            return read_superblock(data).version is version
    except (ErofsError, IntegrityError):
        return False


def keep_image_refs(refs: Mapping[str, ObjectID]) -> dict[str, ObjectID]:
    """Return the references among those of a config's stream that are images."""
    return {name: object_id for name, object_id in refs.items() if is_image_ref(name)}
