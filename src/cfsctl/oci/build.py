"""Make an image of a tree: one layer, alone or on top of those of a stored image.

The layer is written to a temporary file, and then everything is pulled from there like any other image, so
that it is stored, checked and named in the same way. The same tree and options make the same image, wherever
and whenever that happens; only the compressed bytes depend on the version of the compression library.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import Compression
from cfsctl.json_fields import parse_object
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.docker import write_manifest
from cfsctl.oci.layer_blobs import spool
from cfsctl.oci.manifest import Descriptor
from cfsctl.oci.media_types import CONFIG, tar_layer_type
from cfsctl.oci.pull import pull
from cfsctl.oci.reference import host_platform
from cfsctl.oci.source import FileRange, FoundManifest, ImageNotFoundError
from cfsctl.oci.store.images import NotAnImageError, config_of
from cfsctl.oci.tar.write import TreeWriter
from cfsctl.progress import silent
from cfsctl.repository.objects.content import iter_verified
from cfsctl.tree.transform import XattrFilter, filter_xattrs
from cfsctl.tree.walk import iter_nodes

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from cfsctl.oci.layer_blobs import SpooledBlob
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.source import BlobReader
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.tree.model import ExternalFile, FileSystem

_LATEST_S: Final = 253402300799
"""The end of the year 9999, which is as far as dates in a config go."""

_CREATED_BY: Final = "cfsctl oci build"


@dataclass(frozen=True, slots=True)
class BuildOptions:
    """What an image is to be.

    Attributes:
        platform: What it runs on; None is that of the base, or this machine.
        compression: Of the layer's blob.
        xattr_filter: Which extended attributes the layer has.
        source_date_s: When it is made, in seconds since 1970; later times of files become this one. None is
            the latest time of a file.
        entrypoint: What is run; None is that of the base.
        cmd: Its arguments; the same.
        env: Variables of the environment, added to those of the base.
        labels: Added to those of the base.
        bootable: Make a boot image as well.
    """

    platform: Platform | None = None
    compression: Compression = Compression.GZIP
    xattr_filter: XattrFilter = XattrFilter.ALLOWLIST_ONLY
    source_date_s: int | None = None
    entrypoint: Sequence[str] | None = None
    cmd: Sequence[str] | None = None
    env: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    bootable: bool = False


class BuildResult(NamedTuple):
    """What was made.

    Attributes:
        pulled: The image as it is stored.
        skipped: Paths of sockets, which no layer can have.
    """

    pulled: PullResult
    skipped: list[bytes]


def build(
    repository: Repository,
    filesystem: FileSystem,
    tag: str | None,
    options: BuildOptions,
    *,
    base: StoredImage | None = None,
    reporter: Reporter = silent,
) -> BuildResult:
    """Make an image of a tree, and store it.

    Args:
        repository: Where; has the contents of the tree's files.
        filesystem: The tree; attributes that do not stay are removed from it.
        tag: The tag to move to the image, or None.
        options: What it is to be.
        base: A stored image whose layers are below; what the tree lacks of it stays.
        reporter: Told how far it is.

    Raises:
        NotAnImageError: The base is an artifact.
        TarWriteError: The tree has something that no layer can have.
        TransformError: Tree and base have no ``/usr``.
        IntegrityError: The content of a file is damaged.
        OSError: Something cannot be read or stored.
    """
    repository.check_writable()
    filter_xattrs(filesystem, options.xattr_filter.keeps)
    latest_s = max(min(_find_date(filesystem, options), _LATEST_S), 0)
    writer = TreeWriter(_make_reader(repository), options.source_date_s)

    def write(write: Callable[[bytes], object]) -> None:
        for piece in writer.write(filesystem):
            write(piece)

    with spool(write, options.compression) as layer:
        source = _make_source(layer, base, options, latest_s)
        platform = options.platform or _platform_of(base)
        pulled = pull(
            repository, source, tag, platform=platform, bootable=options.bootable, reporter=reporter
        )
    return BuildResult(pulled, writer.skipped)


def _find_date(filesystem: FileSystem, options: BuildOptions) -> int:
    if options.source_date_s is not None:
        return options.source_date_s
    return max(node.mtime_s for node in iter_nodes(filesystem))


def _platform_of(base: StoredImage | None) -> Platform:
    return host_platform() if base is None else config_of(base).config.platform


def _make_reader(repository: Repository) -> Callable[[ExternalFile], Iterator[bytes]]:
    """Return what yields the content of a file, whose object has been verified."""

    def read(file: ExternalFile) -> Iterator[bytes]:
        return iter_verified(repository.objects, file.object_id, file.size)

    return read


def _make_source(
    layer: SpooledBlob, base: StoredImage | None, options: BuildOptions, created_s: int
) -> BuiltSource:
    config = _make_config(layer, base, options, created_s)
    below = () if base is None else base.manifest.layers
    own = Descriptor(tar_layer_type(options.compression), layer.digest, layer.size, {})
    descriptor = Descriptor(CONFIG, compute_digest(config), len(config), {})
    manifest = write_manifest(descriptor, (*below, own))
    return BuiltSource(manifest, config, layer)


def _make_config(
    layer: SpooledBlob, base: StoredImage | None, options: BuildOptions, created_s: int
) -> bytes:
    """Return the config, compact and in a fixed order."""
    created = datetime.fromtimestamp(created_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    old: dict[str, object] = {}
    diff_ids: list[str] = []
    if base is not None:
        if not base.manifest.is_container:
            raise NotAnImageError(f"manifest {base.digest}: an artifact cannot be the base of an image")
        old = parse_object(base.config_document.data, "config").to_dict()
        diff_ids = [str(digest) for digest in config_of(base).config.diff_ids]
    history = old.get("history")
    platform = options.platform or _platform_of(base)
    document: dict[str, object] = {
        **old,
        "created": created,
        "architecture": platform.architecture,
        **({"variant": platform.variant} if platform.variant else {}),
        "os": platform.os,
        "config": _make_details(old.get("config"), options),
        "rootfs": {"type": "layers", "diff_ids": [*diff_ids, str(layer.plain_digest)]},
        "history": [
            *(history if isinstance(history, list) else []),
            {"created": created, "created_by": _CREATED_BY},
        ],
    }
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def _make_details(old: object, options: BuildOptions) -> dict[str, object]:
    """Return what is to be run, and how."""
    details: dict[str, object] = dict(old) if isinstance(old, dict) else {}
    if options.env:
        before = details.get("Env")
        kept = [
            entry
            for entry in (before if isinstance(before, list) else [])
            if str(entry).partition("=")[0] not in options.env
        ]
        details["Env"] = [*kept, *(f"{name}={value}" for name, value in options.env.items())]
    if options.entrypoint is not None:
        details["Entrypoint"] = list(options.entrypoint)
        details.pop("Cmd", None)
    if options.cmd is not None:
        details["Cmd"] = list(options.cmd)
    if options.labels:
        labels = details.get("Labels")
        merged = {**(labels if isinstance(labels, dict) else {}), **options.labels}
        details["Labels"] = dict(sorted(merged.items()))
    return details


class BuiltSource:
    """An image that was just made; see `cfsctl.oci.source.ImageSource`."""

    def __init__(self, manifest: bytes, config: bytes, layer: SpooledBlob) -> None:
        """Take the parts of the image; the layer's file stays the caller's."""
        self._manifest = manifest
        self._config = config
        self._layer = layer

    @property
    def name(self) -> str:
        """What messages call the image."""
        return "new image"

    def find_manifest(self, _: Platform) -> FoundManifest:
        """Return the manifest."""
        return FoundManifest(compute_digest(self._manifest), self._manifest)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open the layer or the config; layers of the base are stored."""
        if descriptor.digest == self._layer.digest:
            return FileRange(self._layer.file.fileno(), 0, self._layer.size, owns=False)
        if descriptor.digest == compute_digest(self._config):
            return _Document(self._config)
        raise ImageNotFoundError(f"blob {descriptor.digest}: a layer of the base is no longer stored")

    def close(self) -> None:
        """There is nothing to close."""


class _Document:
    """A document that is in memory."""

    def __init__(self, data: bytes) -> None:
        self.size = len(data)
        self._rest = data

    def read(self, size: int, /) -> bytes:
        data, self._rest = self._rest[:size], self._rest[size:]
        return data

    def close(self) -> None:
        self._rest = b""
