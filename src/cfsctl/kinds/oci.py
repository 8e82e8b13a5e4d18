"""Container images as a kind of stream: layers, configs, manifests and blobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.kinds.kind import StoredTree, StreamKind
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.kinds.kind import Reading
    from cfsctl.oci.store.images import Found
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem


class OciKind(StreamKind):
    """Images and artifacts; `cfsctl.oci.check` checks them, as most faults concern several streams."""

    noun = "container image"
    content_types = frozenset(
        {ContentType.OCI_LAYER, ContentType.OCI_CONFIG, ContentType.OCI_MANIFEST, ContentType.OCI_BLOB}
    )
    tree_prefix = "oci"
    named_by = "tag, digest or the beginning of its digest"

    def list_names(self, repository: Repository, word: str) -> Iterable[tuple[str, str]]:
        """Yield tags, and digests where one may have been begun."""
        from cfsctl.oci.store.names import MANIFEST, TAGS, iter_digests  # noqa: PLC0415 - only if asked

        for tag in TAGS.list(repository.streams):
            yield tag.name, "tag"
        if word.startswith("sha256:"):
            for digest in iter_digests(repository, MANIFEST):
                yield str(digest), "manifest"

    def find_tree(self, repository: Repository, name: str) -> StoredTree:
        """Return the tree of an image, by tag, digest, or the beginning of its digest."""
        from cfsctl.oci.digest import OciDigestError  # noqa: PLC0415 - only if asked
        from cfsctl.oci.store.images import OciNotFoundError, resolve  # noqa: PLC0415 - the same

        try:
            return _ImageTree(repository, resolve(repository, name))
        except OciDigestError as error:
            raise OciNotFoundError(str(error)) from error


class _ImageTree(StoredTree):
    """The tree of an image, put together from its layers."""

    def __init__(self, repository: Repository, found: Found) -> None:
        self._repository = repository
        self._found = found

    def read(self, reading: Reading, _note: Callable[[str], object]) -> FileSystem:
        from cfsctl.oci.store.images import open_config, verify_layers  # noqa: PLC0415 - only if asked
        from cfsctl.oci.to_tree import image_tree  # noqa: PLC0415 - the same

        config = open_config(self._repository, self._found)
        layers = config.layers()
        if self._found.tag is None:  # what a digest names has to be that
            verify_layers(self._repository, layers)
        return image_tree(self._repository, layers, reading.xattr_filter)
