"""Pull an image: verify everything, store it, make its file system images, and only then move the tag.

Nothing is trusted before its digest is verified: the manifest by its descriptor, if there is one; the config
by the manifest; the blob of each layer by the manifest, and its content by the config.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.context import naming
from cfsctl.oci.fetch_layers import LayerFetch, find_layers
from cfsctl.oci.import_layer import WantedLayer, choose_compression
from cfsctl.oci.keep_blobs import keep_blobs
from cfsctl.oci.local_source import LocalSource
from cfsctl.oci.manifest import ManifestError, matches, parse_config, parse_manifest
from cfsctl.oci.media_types import DELTA_ARTIFACT
from cfsctl.oci.reference import host_platform
from cfsctl.oci.source import ImageNotFoundError, SourceError, read_document
from cfsctl.oci.store.blobs import KeptSource, find_kept
from cfsctl.oci.store.documents import read_document as read_stored
from cfsctl.oci.store.image_refs import plain_kind
from cfsctl.oci.store.names import CONFIG, check_tag
from cfsctl.oci.store.publish import ImageNames, has_all_images, keep_image_refs, store_images
from cfsctl.oci.to_tree import GrowingTree, image_tree
from cfsctl.progress import Message, silent
from cfsctl.repository.objects.sharing import Sharing
from cfsctl.splitstream.format import ContentType
from cfsctl.tree.transform import TransformError, XattrFilter

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.boot_images import BootMatch
    from cfsctl.oci.delta.artifact import Delta
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Manifest, Platform
    from cfsctl.oci.source import ImageSource
    from cfsctl.oci.store.layers import ImportCounts
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
        boot_tried: Boot images that were made in vain.
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
        found = find_image(self._repository, self._source, self.platform, applies_deltas=not self.as_it_is)
        digest, manifest, config, delta = found.digest, found.manifest, found.config, found.delta
        config_digest, old_images, layers = manifest.config.digest, found.images, found.layers
        if self.keeps_compressed and isinstance(self._source, LocalSource) and not self._source.has_blobs:
            raise SourceError(
                "the source has layers only unpacked, so that none can be kept compressed",
                hint="leave --keep-compressed out",
            )
        if found.original is not None:
            self._report(Message(f"the manifest {found.original} in Docker's format is stored as {digest}"))
        self.when_found(len(layers))
        blobs = find_kept(self._repository, digest)
        if self.keeps_compressed and manifest.is_container and delta is None:
            blobs |= keep_blobs(self._repository, self._source, manifest, self._report, self._workers)
            if not isinstance(self._source, LocalSource):
                self._source = KeptSource(self._repository, self._source)
        self._tree = GrowingTree(self._repository, [layer.digest for layer in layers])
        makes_images = manifest.is_container and (
            bootable or not has_all_images(self._repository, old_images)
        )
        fetch = LayerFetch(
            self._repository,
            self._source,
            self._report,
            self._tree.advance if makes_images else None,
            self._workers,
            None if delta is None else partial(_open_base, self._repository, delta.source_config),
            self.sharing,
        )
        fetch.run(layers)
        objects = self._repository.objects
        names = ImageNames(
            self._repository,
            (digest, objects.ensure_bytes(found.data)),
            (config_digest, objects.ensure_bytes(config)),
            {layer.digest: fetch.streams[layer.digest] for layer in layers},
            blobs,
            is_container=manifest.is_container,
        )
        self._names = names
        self._images = old_images
        self._layers = [(layer.digest, fetch.streams[layer.digest]) for layer in layers]
        if makes_images:
            self._make_images(fetch.streams, bootable=bootable)
        names.write(self._images)
        names.publish(tag)
        fetch.finish()
        if self._caution is not None:
            self._report(Message(self._caution, is_warning=True))
        default = plain_kind(self._repository.erofs_versions[0])
        is_made = bootable and manifest.is_container
        return PullResult(
            digest,
            config_digest,
            names.manifest_id,
            names.config_id,
            tag,
            fetch.counts,
            self._images.get(default.ref) if manifest.is_container else None,
            self._images[default._replace(is_bootable=True, xattr_filter=self.boot_xattrs).ref]
            if is_made
            else None,
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

                turn_bootable(repository, tree)
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


class FoundImage(NamedTuple):
    """An image that is to be pulled, with its verified documents.

    Attributes:
        digest: The manifest's digest; of a delta, that of the image it leads to.
        data: The manifest.
        manifest: The same, parsed.
        config: The config.
        images: File system images that the stored config names.
        layers: What each layer is to be.
        delta: The delta that has been found in place of the image, or None.
        original: The digest of the manifest that this one was converted from, or None.
    """

    digest: OciDigest
    data: bytes
    manifest: Manifest
    config: bytes
    images: dict[str, ObjectID]
    layers: list[WantedLayer]
    delta: Delta | None
    original: OciDigest | None = None


def find_image(
    repository: Repository, source: ImageSource, platform: Platform | None, *, applies_deltas: bool = True
) -> FoundImage:
    """Return the image that a source leads to; its documents are verified.

    Args:
        repository: Where it would go; documents that it has are not read from the source.
        source: Where it is.
        platform: What it must run on, or None for this machine's choice.
        applies_deltas: Whether a delta stands for the image that it leads to.

    Raises:
        ImageNotFoundError: The source does not have it, or not for this platform.
        DeltaBaseMissingError: It is a delta, and the image that it starts from is not stored.
        ReceivedDigestError, FormatError: Something is not valid.
    """
    digest, data, is_chosen, original = source.find_manifest(platform or host_platform())
    manifest = parse_manifest(data, f"manifest {digest}")
    delta: Delta | None = None
    if applies_deltas and manifest.artifact_type == DELTA_ARTIFACT:
        from cfsctl.oci.delta.artifact import read_delta  # few images are deltas

        delta = read_delta(source, manifest)
        digest, data = delta.manifest[:2]
        manifest = parse_manifest(data, f"manifest {digest}")
    config, images = _get_config(repository, source, manifest, delta)
    layers = _list_layers(manifest, config)
    if platform is not None and not is_chosen and manifest.is_container:
        _check_platform(parse_config(config).platform, platform)
    if delta is not None:
        layers = _patch_layers(repository, layers, delta)
    return FoundImage(digest, data, manifest, config, images, layers, delta, original)


def _open_base(repository: Repository, config: OciDigest) -> SourceFiles:
    """Return the files of the image that a delta starts from."""
    from cfsctl.oci.delta.artifact import StoredFiles

    return StoredFiles(repository, config)


def _patch_layers(repository: Repository, layers: list[WantedLayer], delta: Delta) -> list[WantedLayer]:
    """Return the layers with patches in the place of blobs; what has none must be stored.

    Raises:
        DeltaBaseMissingError: The image that the delta starts from is not stored.
        ManifestError: A layer is neither here nor in the delta.
    """
    stored = find_layers(repository, layers)
    if any(layer.digest not in stored for layer in layers):
        from cfsctl.oci.delta.artifact import check_base

        check_base(repository, delta.source_config)
    patched = []
    for layer in layers:
        patch = delta.patches.get(layer.descriptor.digest)
        if patch is None and layer.digest not in stored:
            raise ManifestError(f"Reused layer {layer.digest} not found", hint="pull the whole image")
        patched.append(layer if patch is None else layer._replace(descriptor=patch))
    return patched


def _get_config(
    repository: Repository, source: ImageSource, manifest: Manifest, delta: Delta | None
) -> tuple[bytes, dict[str, ObjectID]]:
    """Return the config and the images that are known of it."""
    digest = manifest.config.digest
    stream_id = repository.streams.find(f"{CONFIG}{digest}")
    if stream_id is not None:
        try:
            stored = read_stored(repository, stream_id, ContentType.OCI_CONFIG, digest)
        except CfsError:
            pass  # fetched again, which heals it
        else:
            return stored.data, keep_image_refs(stored.refs)
    if delta is not None:
        return delta.config, {}
    return read_document(source, manifest.config, "config"), {}


def _check_platform(found: Platform, wanted: Platform) -> None:
    """Compare the platform of a config with the one that was asked for.

    Raises:
        ImageNotFoundError: It is another one.
    """
    if not matches(found, wanted):
        raise ImageNotFoundError(
            f"No manifest found for platform {wanted}; available: {found} (of its config)",
            hint="choose another one with --platform",
        )


def _list_layers(manifest: Manifest, config: bytes) -> list[WantedLayer]:
    """Return what each layer of a manifest is to be.

    Raises:
        ManifestError: The config does not go with it.
        SourceError: A layer of an image is not an archive.
    """
    if not manifest.is_container:
        return [WantedLayer(layer, layer.digest, is_tar=False) for layer in manifest.layers]
    diff_ids = parse_config(config, f"config {manifest.config.digest}").diff_ids
    if len(diff_ids) != len(manifest.layers):
        raise ManifestError(
            f"config {manifest.config.digest}: rootfs.diff_ids:"
            f" expected {len(manifest.layers)} layer refs but got {len(diff_ids)}"
        )
    for layer in manifest.layers:
        choose_compression(layer)
    return [
        WantedLayer(layer, digest, is_tar=True)
        for layer, digest in zip(manifest.layers, diff_ids, strict=True)
    ]
