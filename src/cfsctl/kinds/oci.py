"""Container images as a kind of stream: layers, configs, manifests and blobs."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.kinds.kind import Copyable, NamedCopy, StoredTree, StoredVersion, StreamKind
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.kinds.kind import Reading
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.images import Found, StoredConfig, StoredImage
    from cfsctl.oci.store.layer_writer import ImportCounts
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck
    from cfsctl.tree.model import FileSystem


class OciKind(StreamKind):
    """Images and artifacts; `cfsctl.oci.check` checks them, as most faults concern several streams."""

    noun = "container image"
    content_types = frozenset(
        {
            ContentType.OCI_LAYER,
            ContentType.OCI_CONFIG,
            ContentType.OCI_MANIFEST,
            ContentType.OCI_BLOB,
            ContentType.OCI_INDEX,
        }
    )
    tree_prefix = "oci"
    named_by = "tag, digest or the beginning of its digest"

    def claims(self, name: str) -> bool:
        """Return whether this is the name of a stream of an image, with a digest in it."""
        from cfsctl.oci.store.names import is_stream_name

        return is_stream_name(name)

    def find_check(self, repository: Repository, *, is_deep: bool) -> ContentCheck:
        """Return what compares documents with the digests in their names, and layers in depth only."""
        from cfsctl.oci.store.stream_check import stream_check

        return stream_check(repository, is_deep=is_deep)

    def find_version(self, repository: Repository, entry: str) -> StoredVersion | None:
        """Return what an image says about itself, by its manifest; its layers are not verified."""
        from cfsctl.oci.store.images import config_of, open_image
        from cfsctl.oci.store.names import parse_manifest_name

        digest = parse_manifest_name(entry)
        if digest is None:
            return None
        image = open_image(repository, digest)
        if not image.manifest.is_container:
            return None
        stored = config_of(image)
        title = stored.config.created or ""
        return StoredVersion(str(digest), None, None, title, None, _LayeredTree(repository, stored))

    def find_copyable(self, repository: Repository, name: str) -> Copyable | None:
        """Return an image, by tag, digest, the beginning of its digest, or its manifest's stream."""
        from cfsctl.oci.digest import OciDigestError
        from cfsctl.oci.store.images import OciNotFoundError, open_found, resolve
        from cfsctl.oci.store.index_names import find_index, find_tagged_index
        from cfsctl.oci.store.names import (
            is_stream_name,
            parse_index_name,
            parse_manifest_name,
        )

        listed = parse_index_name(name)
        index = find_index(repository, name if listed is None else f"@{listed}")
        if index is not None:
            tag = name if find_tagged_index(repository, name) is not None else None
            return _CopyableIndex(repository, index, tag)
        digest = parse_manifest_name(name)
        if digest is None and is_stream_name(name):
            return None  # a layer alone is a stream as any other
        try:
            found = resolve(repository, name if digest is None else f"@{digest}")
        except OciDigestError as error:
            raise OciNotFoundError(str(error)) from error
        return _CopyableImage(repository, open_found(repository, found), found.tag)

    def restore_stream(self, source: Repository, target: Repository, name: str) -> None:
        """Copy the image whose manifest or config a stream is, or a layer."""
        from cfsctl.oci.copy import copy_opened
        from cfsctl.oci.store.images import find_manifests, open_image
        from cfsctl.oci.store.names import (
            CONFIG,
            CONFIG_REF,
            parse_index_name,
            parse_manifest_name,
        )

        index = parse_index_name(name)
        if index is not None:
            from cfsctl.oci.copy_index import copy_index

            copy_index(source, target, index, workers=0)
            return
        manifest = parse_manifest_name(name)
        if manifest is not None:
            copy_opened(source, target, open_image(source, manifest), None, workers=0)
        elif name.startswith(CONFIG):
            for digest in find_manifests(source, CONFIG_REF + name.removeprefix(CONFIG)):
                copy_opened(source, target, open_image(source, digest), None, workers=0)
        else:
            super().restore_stream(source, target, name)

    def identify(self, repository: Repository, stream_id: ObjectID) -> str | None:
        """Return the name of the stream of a manifest or index, which is the digest of its content."""
        from cfsctl.oci.digest import compute_digest
        from cfsctl.oci.store.documents import find_only_object
        from cfsctl.oci.store.names import INDEX, MANIFEST

        with repository.streams.open_object(stream_id) as reader:
            prefixes = {int(ContentType.OCI_MANIFEST): MANIFEST, int(ContentType.OCI_INDEX): INDEX}
            prefix = prefixes.get(reader.content_type)
            if prefix is None:
                return None
            return f"{prefix}{compute_digest(repository.objects.read(find_only_object(reader)))}"

    def name_of_ref(self, ref: str) -> str:
        """Return the tag that a ref is."""
        from cfsctl.oci.store.names import TAGS

        return TAGS.name_of(ref) or ref

    def name_fetched(
        self,
        repository: Repository,
        name: str,
        stream_id: ObjectID,
        ref: str | None,
        images: Iterable[ObjectID],
        reporter: Reporter,
    ) -> ObjectID:
        """Name an image whose manifest was fetched: its layers are verified, and its images made again."""
        from cfsctl.oci.copy import copy_opened
        from cfsctl.oci.store.images import open_manifest_stream
        from cfsctl.oci.store.names import check_tag, parse_manifest_name

        manifest = parse_manifest_name(name)
        if manifest is None:
            return super().name_fetched(repository, name, stream_id, ref, images, reporter)
        if ref is not None:
            check_tag(ref)
        image = open_manifest_stream(repository, manifest, stream_id)
        return copy_opened(repository, repository, image, ref, reporter=reporter).manifest_id

    def prepare_collection(self, repository: Repository) -> None:
        """Remove links between manifests and artifacts about them where one of the two is gone.

        Indexes are made to refer to the manifests as they are now: other programs leave them behind.
        """
        from cfsctl.oci.store.indexes import refresh_indexes
        from cfsctl.oci.store.referrers import remove_dangling

        refresh_indexes(repository)
        remove_dangling(repository)

    def list_names(self, repository: Repository, word: str) -> Iterable[tuple[str, str]]:
        """Yield tags, and digests where one may have been begun."""
        from cfsctl.digest import id_prefix
        from cfsctl.oci.store.names import (
            CONFIG,
            INDEX,
            MANIFEST,
            iter_digests,
            list_tag_names,
        )

        for name in list_tag_names(repository):
            yield name, "tag"
        before = id_prefix(word)
        kinds = ((MANIFEST, "manifest"), (CONFIG, "config"), (INDEX, "index"))
        for kind, noun in kinds if before is not None else ():
            for digest in iter_digests(repository, kind):
                yield f"{before}{digest.encoded}", noun

    def find_tree(self, repository: Repository, name: str) -> StoredTree:
        """Return the tree of an image, by tag, digest, or the beginning of its digest."""
        from cfsctl.oci.digest import OciDigestError
        from cfsctl.oci.store.images import OciNotFoundError, resolve

        try:
            return _ImageTree(repository, resolve(repository, name))
        except OciDigestError as error:
            raise OciNotFoundError(str(error)) from error


class _Copied(NamedTuple):
    """A copy of an image or index: what counts of the results of either."""

    manifest: OciDigest
    stream_id: ObjectID
    image: ObjectID | None
    counts: ImportCounts


class _CopyableOci(Copyable):
    """Something with a tag that can be copied."""

    def __init__(self, repository: Repository, ref: str | None) -> None:
        self._repository = repository
        self.ref = ref

    def copy(
        self, target: Repository, ref: str | None, reporter: Reporter, *, allow_unverified: bool = False
    ) -> NamedCopy:
        from cfsctl.oci.store.names import check_tag
        from cfsctl.repository.copying import CopyCounts

        del allow_unverified  # images have no signatures that a tag could demand
        if ref is not None:
            check_tag(ref)
        copied = self._copy(target, ref, reporter)
        ids = {
            "image": None if copied.image is None else copied.image.hex(),
            "stream": copied.stream_id.hex(),
            "manifest": str(copied.manifest),
        }
        counts = copied.counts
        return NamedCopy(
            ids, ref, CopyCounts(counts.new, counts.new_bytes, counts.reflinked_bytes, counts.present)
        )

    @abstractmethod
    def _copy(self, target: Repository, ref: str | None, reporter: Reporter) -> _Copied:
        """Copy and tag it."""


class _CopyableImage(_CopyableOci):
    """An image or artifact that can be copied."""

    def __init__(self, repository: Repository, image: StoredImage, ref: str | None) -> None:
        super().__init__(repository, ref)
        self._image = image

    def _copy(self, target: Repository, ref: str | None, reporter: Reporter) -> _Copied:
        from cfsctl.oci.copy import copy_opened

        done = copy_opened(self._repository, target, self._image, ref, reporter=reporter)
        return _Copied(done.manifest_digest, done.manifest_id, done.image, done.counts)


class _CopyableIndex(_CopyableOci):
    """An index that can be copied, with all images that it leads to."""

    def __init__(self, repository: Repository, index: OciDigest, ref: str | None) -> None:
        super().__init__(repository, ref)
        self._index = index

    def _copy(self, target: Repository, ref: str | None, reporter: Reporter) -> _Copied:
        from cfsctl.oci.copy_index import copy_index
        from cfsctl.oci.pull_index import tag_pulled

        done = copy_index(self._repository, target, self._index, reporter=reporter)
        if ref is not None:
            tag_pulled(target, done, ref)
        return _Copied(done.digest, done.stream_id, None, done.counts)


class _ImageTree(StoredTree):
    """The tree of an image, assembled from its layers."""

    def __init__(self, repository: Repository, found: Found) -> None:
        self._repository = repository
        self._found = found

    def read(self, reading: Reading, _note: Callable[[str], object]) -> FileSystem:
        from cfsctl.oci.store.images import open_config, verify_layers
        from cfsctl.oci.to_tree import image_tree

        config = open_config(self._repository, self._found)
        layers = config.layers()
        if self._found.tag is None:  # what a digest names has to be that
            verify_layers(self._repository, layers)
        return image_tree(self._repository, layers, reading.xattr_filter)


class _LayeredTree(StoredTree):
    """The tree of an image whose config is at hand."""

    def __init__(self, repository: Repository, config: StoredConfig) -> None:
        self._repository = repository
        self._config = config

    def read(self, reading: Reading, _note: Callable[[str], object]) -> FileSystem:
        from cfsctl.oci.to_tree import image_tree

        return image_tree(self._repository, self._config.layers(), reading.xattr_filter)
