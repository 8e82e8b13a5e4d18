"""Deltas: artifacts that hold another image's manifest and config, and patches for its new layers.

The files that patches start from are those of an image that is stored already, named by its config. They are
looked up in the tree of its layers, so any file that the layers have can be one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, ExitCode
from cfsctl.oci.digest import parse_digest
from cfsctl.oci.manifest import ManifestError, parse_config, parse_manifest
from cfsctl.oci.source import FoundManifest, read_document
from cfsctl.oci.store.images import Found, open_config
from cfsctl.oci.store.names import CONFIG
from cfsctl.oci.tar_diff.decode import OpenedFile, TarDiffError
from cfsctl.oci.to_tree import TreeBuilder
from cfsctl.tree.lookup import TreePathError, find_node
from cfsctl.tree.model import ExternalFile, InlineFile

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Manifest
    from cfsctl.oci.source import ImageSource
    from cfsctl.oci.tar_diff.decode import SourceFile
    from cfsctl.repository import Repository
    from cfsctl.tree.model import FileSystem

SOURCE_CONFIG: Final = "io.github.containers.delta.source-config"
CONTENT: Final = "io.github.containers.delta.content"
TARGET: Final = "io.github.containers.delta.to"


class DeltaBaseMissingError(CfsError):
    """The image that a delta starts from is not stored."""

    exit_code = ExitCode.NOT_FOUND


class Delta(NamedTuple):
    """A delta whose documents have been checked.

    Attributes:
        manifest: The target's manifest.
        config: The target's config.
        patches: Patch, or whole layer, by the digest of the target's layer.
        source_config: The config of the image that it starts from.
    """

    manifest: FoundManifest
    config: bytes
    patches: dict[OciDigest, Descriptor]
    source_config: OciDigest


def read_delta(source: ImageSource, manifest: Manifest) -> Delta:
    """Return what a delta holds.

    Args:
        source: Where it is.
        manifest: The delta's own manifest.

    Raises:
        ManifestError: It is not complete, or its parts do not go together.
        ReceivedDigestError: A document is not what its digest says.
        FormatError: One is not valid.
    """
    if SOURCE_CONFIG not in manifest.annotations:
        raise ManifestError("delta: Delta missing source config digest annotation")
    target = _find(manifest, "image-manifest", "manifest")
    found = FoundManifest(target.digest, read_document(source, target, "Embedded target manifest"))
    embedded = _find(manifest, "image-config", "config")
    config = read_document(source, embedded, "Embedded target config")
    parsed = parse_manifest(found.data, "delta: embedded manifest")
    if parsed.config.digest != embedded.digest:
        raise ManifestError(
            f"Delta target manifest references config {parsed.config.digest},"
            f" but the embedded config is {embedded.digest}"
        )
    count = len(parse_config(config, "delta: embedded config").diff_ids)
    if count != len(parsed.layers):
        raise ManifestError(f"Delta target image has {count} diff_ids but {len(parsed.layers)} layers")
    return Delta(
        found,
        config,
        _list_patches(manifest, parsed),
        parse_digest(manifest.annotations[SOURCE_CONFIG], "delta: source config"),
    )


def _find(manifest: Manifest, content: str, what: str) -> Descriptor:
    for layer in manifest.layers:
        if layer.annotations.get(CONTENT) == content:
            return layer
    raise ManifestError(f"Delta manifest has no embedded image {what}")


def _list_patches(manifest: Manifest, target: Manifest) -> dict[OciDigest, Descriptor]:
    wanted = {layer.digest for layer in target.layers}
    patches = {}
    for layer in manifest.layers:
        if layer.annotations.get(CONTENT) != "image-layer":
            continue
        digest = parse_digest(layer.annotations.get(TARGET, ""), "delta: target of a patch")
        if digest not in wanted:
            raise ManifestError(
                f"Delta contains a patch for layer {digest}, which is not part of the target image"
            )
        patches[digest] = layer
    return patches


class StoredFiles:
    """The files of a stored image, for patches."""

    def __init__(self, repository: Repository, config: OciDigest) -> None:
        """Build the tree of the image's layers.

        Raises:
            DeltaBaseMissingError: The image is not stored.
            FormatError, IntegrityError: What is stored is damaged.
        """
        self._repository = repository
        check_base(repository, config)
        layers = open_config(repository, Found(None, config, None)).layers()
        builder = TreeBuilder()
        for digest, stream_id in layers:
            builder.apply_layer(repository, digest, stream_id)
        self._tree: FileSystem = builder.filesystem

    def open(self, path: bytes, /) -> SourceFile:
        """Open a regular file of the tree."""
        shown = path.decode("utf-8", "backslashreplace")
        try:
            found = find_node(self._tree.root, path.removeprefix(b"/"), follow_last=False)
        except TreePathError as error:
            raise TarDiffError(f"Source file not found: {shown}: {error}") from error
        node = None if found is None else found[0]
        if isinstance(node, ExternalFile):
            return OpenedFile(self._repository.objects.open(node.object_id))
        if isinstance(node, InlineFile):
            return OpenedFile(node.data)
        what = "no such file" if node is None else "not a regular file"
        raise TarDiffError(f"Source file not found: {shown}: {what}")


def check_base(repository: Repository, config: OciDigest) -> None:
    """Check that the image that a delta starts from is stored.

    Raises:
        DeltaBaseMissingError: It is not.
    """
    if repository.streams.find(f"{CONFIG}{config}") is None:
        raise DeltaBaseMissingError(
            f"The delta is based on an image with config {config}, but it is not present in the repository."
            " The delta cannot be applied.",
            hint="pull that image first",
        )
