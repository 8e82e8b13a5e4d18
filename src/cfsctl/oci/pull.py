"""Pull an image: verify everything, store it, make its file system images, and only then move the tag.

Nothing is trusted before its digest is verified: the manifest by its descriptor, if there is one; the config
by the manifest; the blob of each layer by the manifest, and its content by the config.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.context import naming
from cfsctl.oci.fetch_layers import LayerFetch
from cfsctl.oci.find_image import find_image
from cfsctl.oci.keep_blobs import keep_blobs
from cfsctl.oci.local_source import LocalSource
from cfsctl.oci.source import SourceError
from cfsctl.oci.store.blobs import KeptSource, find_kept
from cfsctl.oci.store.image_refs import plain_kind
from cfsctl.oci.store.names import check_tag
from cfsctl.oci.store.publish import ImageNames, has_all_images, store_images
from cfsctl.oci.to_tree import GrowingTree, image_tree
from cfsctl.progress import Message, silent
from cfsctl.repository.objects.sharing import Sharing
from cfsctl.tree.transform import TransformError, XattrFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.boot_images import BootMatch
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.find_image import FoundImage
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.source import ImageSource
    from cfsctl.oci.store.layer_writer import ImportCounts
    from cfsctl.oci.tar_diff.decode import SourceFiles
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull has done.

    Attributes:
        manifest_digest: The manifest.
        config_digest: The config.
        manifest_id: The manifest's splitstream object.
        config_id: The config's.
        tag: The tag that names it, or None.
        counts: What became of the contents of layers that were fetched.
        image: The file system image in the default format, or None for an artifact.
        boot_image: The boot image that was requested, or None.
        boot_match: How the boot image was found that was expected, or None.
        boot_tried: Boot images that were made without a match.
        boot_xattrs: Extended attributes that the boot image was to keep.
        original: Digest of the manifest in Docker's format that this one was converted from, or None.
        referrers: Artifacts about it that were pulled as well.
    """

    manifest_digest: OciDigest
    config_digest: OciDigest
    manifest_id: ObjectID
    config_id: ObjectID
    tag: str | None
    counts: ImportCounts
    image: ObjectID | None
    boot_image: ObjectID | None = None
    boot_match: BootMatch | None = None
    boot_tried: int = 0
    boot_xattrs: XattrFilter = XattrFilter.ALLOWLIST_ONLY
    original: OciDigest | None = None
    referrers: tuple[OciDigest, ...] = ()


def pull(
    repository: Repository,
    source: ImageSource,
    tag: str | None = None,
    *,
    platform: Platform | None = None,
    bootable: bool = False,
    expected: ObjectID | None = None,
    workers: int | None = None,
    keep_compressed: bool = False,
    sharing: Sharing = Sharing.DISABLED,
    boot_xattrs: XattrFilter = XattrFilter.ALLOWLIST_ONLY,
    when_found: Callable[[int], object] = lambda _layers: None,
    as_it_is: bool = False,
    reporter: Reporter = silent,
) -> PullResult:
    """Pull an image or artifact.

    Args:
        repository: Where it goes.
        source: Where it is.
        tag: The tag to move to it, or None.
        platform: What it is to run on, which is demanded then of every image; None is this machine's choice
            where there is one.
        bootable: Make boot images as well.
        expected: With `bootable`: look for the boot image that has this ID instead.
        workers: Processes that fetch layers; 0 for none, None for one per processor.
        keep_compressed: Store compressed layers also as they came, so that a push need not change anything.
        sharing: Whether files are shared with a source on this machine that has them unpacked.
        boot_xattrs: Extended attributes that the boot image keeps.
        when_found: Called with the number of layers, before the first is fetched.
        as_it_is: It is part of something that is pulled whole: a delta is stored and not applied, and an
            image of which no file system image can be made is stored without one.
        reporter: Told how far each layer is.

    Raises:
        InvalidNameError: The tag cannot be one; nothing was read.
        ImageNotFoundError: The source does not have it, or not for this platform.
        NotBootableError: A boot image is asked for of a tree that lacks a directory.
        ReceivedDigestError: Something is not what its digest says; it has no name then.
        FormatError: Something is not valid.
        OSError: Something could not be read or stored.
    """
    if tag is not None:
        check_tag(tag)
    repository.check_writable()
    with naming(source.name):
        run = _Pull(repository, source, workers, reporter)
        run.keeps_compressed = keep_compressed
        run.sharing = sharing
        run.platform = platform
        run.boot_xattrs = boot_xattrs
        run.when_found = when_found
        run.as_it_is = as_it_is
        result = run.run(tag, bootable=bootable and expected is None)
        return result if expected is None or result.image is None else run.find_boot_image(result, expected)


class _Pull:
    def __init__(
        self, repository: Repository, source: ImageSource, workers: int | None, reporter: Reporter
    ) -> None:
        self.keeps_compressed = False
        self.sharing = Sharing.DISABLED
        self.platform: Platform | None = None
        self.boot_xattrs = XattrFilter.ALLOWLIST_ONLY
        self.when_found: Callable[[int], object]
        self.as_it_is = False
        self._workers = workers
        self._repository = repository
        self._source = source
        self._report = reporter
        self._caution: str | None = getattr(source, "caution", None)

        self._layers: list[tuple[OciDigest, ObjectID]] = []
        self._names: ImageNames
        self._tree: GrowingTree
        self._images: dict[str, ObjectID] = {}

    def run(self, tag: str | None, *, bootable: bool) -> PullResult:
        """Fetch the image, make its file system images, and name everything."""
        found = find_image(self._repository, self._source, self.platform, applies_deltas=not self.as_it_is)
        self._check_can_keep_compressed()
        if found.original is not None:
            self._report(
                Message(f"the manifest {found.original} in Docker's format is stored as {found.digest}")
            )
        self.when_found(len(found.layers))
        blobs = self._keep_blobs(found)
        is_container = found.manifest.is_container
        makes_images = is_container and (bootable or not has_all_images(self._repository, found.images))
        fetch = self._fetch_layers(found, grows_tree=makes_images)
        objects = self._repository.objects
        self._layers = [(layer.digest, fetch.streams[layer.digest]) for layer in found.layers]
        self._names = ImageNames(
            self._repository,
            (found.digest, objects.ensure_bytes(found.data)),
            (found.manifest.config.digest, objects.ensure_bytes(found.config)),
            dict(self._layers),
            blobs,
            is_container=is_container,
        )
        self._images = found.images
        if makes_images:
            self._make_images(fetch.streams, bootable=bootable)
        self._names.write(self._images)
        self._names.publish(tag)
        fetch.finish()
        if self._caution is not None:
            self._report(Message(self._caution, is_warning=True))
        return self._result(found, tag, fetch.counts, bootable=bootable)

    def _check_can_keep_compressed(self) -> None:
        if self.keeps_compressed and isinstance(self._source, LocalSource) and not self._source.has_blobs:
            raise SourceError(
                "the source has only unpacked layers, so compressed layers cannot be kept",
                hint="leave --keep-compressed out",
            )

    def _keep_blobs(self, found: FoundImage) -> dict[str, ObjectID]:
        """Return the compressed layers that are stored, after storing all of them if that is asked for."""
        blobs = find_kept(self._repository, found.digest)
        if self.keeps_compressed and found.manifest.is_container and found.delta is None:
            blobs |= keep_blobs(self._repository, self._source, found.manifest, self._report, self._workers)
            if not isinstance(self._source, LocalSource):
                self._source = KeptSource(self._repository, self._source)  # they are not fetched twice
        return blobs

    def _fetch_layers(self, found: FoundImage, *, grows_tree: bool) -> LayerFetch:
        """Store the layers that are missing, while the tree grows by those that are there."""
        delta = found.delta
        self._tree = GrowingTree(self._repository, [layer.digest for layer in found.layers])
        fetch = LayerFetch(
            self._repository,
            self._source,
            self._report,
            self._tree.advance if grows_tree else None,
            self._workers,
            None if delta is None else partial(_open_base, self._repository, delta.source_config),
            self.sharing,
        )
        fetch.run(found.layers)
        return fetch

    def _result(
        self, found: FoundImage, tag: str | None, counts: ImportCounts, *, bootable: bool
    ) -> PullResult:
        image = boot_image = None
        if found.manifest.is_container:
            default = plain_kind(self._repository.erofs_versions[0])
            image = self._images.get(default.ref)
            if bootable:
                boot_kind = default._replace(is_bootable=True, xattr_filter=self.boot_xattrs)
                boot_image = self._images[boot_kind.ref]
        return PullResult(
            manifest_digest=found.digest,
            config_digest=found.manifest.config.digest,
            manifest_id=self._names.manifest_id,
            config_id=self._names.config_id,
            tag=tag,
            counts=counts,
            image=image,
            boot_image=boot_image,
            boot_xattrs=self.boot_xattrs,
            original=found.original,
        )

    def find_boot_image(self, result: PullResult, expected: ObjectID) -> PullResult:
        """Return the result with the boot image that was expected, which the config names then."""
        from cfsctl.oci.boot_images import BootSearch  # most pulls make no boot image

        search = BootSearch(self._repository, self._layers, expected)
        match = search.run()
        if match is None:
            return replace(result, boot_tried=search.tried)
        self._replace_images({match.kind.ref: match.image_id})
        self._names.write(self._images)
        self._names.publish(None)
        return replace(
            result,
            manifest_id=self._names.manifest_id,
            config_id=self._names.config_id,
            boot_image=match.image_id,
            boot_match=match,
        )

    def _make_images(self, streams: Mapping[OciDigest, ObjectID], *, bootable: bool) -> None:
        """Make the images of the config."""
        repository = self._repository
        try:
            tree = self._tree.finish(streams)
            for remark in self._tree.remarks:
                self._report(Message(f"{self._source.name}: {remark}"))
            self._images = self._images | store_images(repository, tree)
            if bootable:
                if self.boot_xattrs is not XattrFilter.ALLOWLIST_ONLY:
                    tree = image_tree(repository, self._layers, self.boot_xattrs)
                from cfsctl.oci.boot_images import turn_bootable

                if not turn_bootable(repository, tree):
                    self._report(
                        Message(f"{self._source.name}: the boot image has no kernel and no boot entry")
                    )
                self._replace_images(
                    store_images(repository, tree, is_bootable=True, xattr_filter=self.boot_xattrs)
                )
        except CfsError as error:
            if self.as_it_is and isinstance(error, FormatError | TransformError):
                self._report(Message(f"{self._source.name}: stored without file system images: {error}"))
                return
            # As the original: what was fetched can be looked at by its digest until it is collected.
            self._names.write(self._images)
            self._names.publish(None)
            raise

    def _replace_images(self, new: Mapping[str, ObjectID]) -> None:
        """Have the config name other boot images; those that it named are kept."""
        from cfsctl.oci.boot_images import keep_replaced

        images = {**self._images, **new}
        for image_id in keep_replaced(self._repository, self._images, images):
            self._report(
                Message(
                    f"keeping boot image {image_id.hex()}, which is replaced: a boot entry may name it"
                    " (cfsctl boot list)"
                )
            )
        self._images = images


def _open_base(repository: Repository, config: OciDigest) -> SourceFiles:
    """Return the files of the image that a delta starts from."""
    from cfsctl.oci.delta.artifact import StoredFiles

    return StoredFiles(repository, config)
