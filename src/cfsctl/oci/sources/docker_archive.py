"""Archives of ``docker save`` and ``podman save``: ``docker-archive:FILE[:NAME[:TAG]]`` or ``FILE:@INDEX``.

manifest.json    [{"Config": FILE, "RepoTags": [NAME, …], "Layers": [FILE, …]}, …]
FILE             a config, or a layer, which is rarely compressed

Such an archive has no OCI manifest. One is made of what there is: the config and its bytes stay, layers go by
the digests of their files, and the manifest is compact and in a fixed order. So an image has the same digest
each time it is read.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression import Compression, detect_compression
from cfsctl.errors import FormatError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES, JsonFields, parse_value
from cfsctl.oci.digest import OciDigest, compute_digest
from cfsctl.oci.docker import write_manifest
from cfsctl.oci.manifest import MAX_LAYERS, Descriptor, ImageConfig, ManifestError, matches, parse_config
from cfsctl.oci.media_types import CONFIG, tar_layer_type
from cfsctl.oci.reference import ImageReferenceError
from cfsctl.oci.registry.names import parse_image_name
from cfsctl.oci.source import FoundManifest, ImageNotFoundError, SourceError, check_blob, read_blob

if TYPE_CHECKING:
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.source import BlobReader
    from cfsctl.oci.sources.files import LayoutFiles

_INDEX: Final = re.compile(r"@(\d{1,4})", re.ASCII)
_HEAD_BYTES: Final = 6
_READ_BYTES: Final = 1 << 18
_MAX_IMAGES: Final = 1024


class DockerArchiveName(NamedTuple):
    """An image of an archive.

    Attributes:
        path: The archive.
        name: Name and tag of the image in full, or None.
        position: Which image it is, counted from 0, or None.
    """

    path: str
    name: str | None = None
    position: int | None = None


def parse_docker_archive_name(place: str) -> DockerArchiveName:
    """Return what follows ``docker-archive:``; the path ends at the first colon.

    Raises:
        ImageReferenceError: It names nothing.
    """
    path, colon, rest = place.partition(":")
    if not path:
        raise ImageReferenceError(f"docker-archive:{place}: expected a path")
    if not colon:
        return DockerArchiveName(path)
    match = _INDEX.fullmatch(rest)
    if match:
        return DockerArchiveName(path, position=int(match[1]))
    name = parse_image_name(rest)
    if name.digest is not None:
        raise ImageReferenceError(f"docker-archive:{place}: expected a tag, found a digest")
    return DockerArchiveName(path, str(name))


class _Saved(NamedTuple):
    """An image as the archive lists it."""

    config: str
    tags: tuple[str, ...]
    layers: tuple[str, ...]


class DockerArchiveSource:
    """One image of an archive."""

    def __init__(self, files: LayoutFiles, wanted: DockerArchiveName, name: str | None = None) -> None:
        """Read nothing yet.

        Args:
            files: The archive; closed with this.
            wanted: Which image of it.
            name: What messages call it; None is by the archive.
        """
        self._files = files
        self._wanted = wanted
        suffix = wanted.name or ("" if wanted.position is None else f"@{wanted.position}")
        self._name = name or f"docker-archive:{files.path}{':' if suffix else ''}{suffix}"
        self._blobs: dict[OciDigest, str] = {}

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self._name

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest that is made of the image; see `cfsctl.oci.source.ImageSource`."""
        saved = self._choose(_parse_list(self._read("manifest.json")))
        data = self._read(saved.config)
        config = parse_config(data, f"config {saved.config}")
        if not matches(config.platform, platform):
            raise ImageNotFoundError(
                f"No manifest found for platform {platform}; available: {config.platform} (of its config)",
                hint="choose another one with --platform",
            )
        config_digest = compute_digest(data)
        self._blobs[config_digest] = saved.config
        layers = self._describe_layers(saved, config)
        manifest = write_manifest(Descriptor(CONFIG, config_digest, len(data), {}), layers)
        return FoundManifest(compute_digest(manifest), manifest)

    def _choose(self, images: list[_Saved]) -> _Saved:
        wanted = self._wanted
        if wanted.position is not None:
            if wanted.position >= len(images):
                raise ImageNotFoundError(f"expected image @{wanted.position}, found {len(images)} images")
            return images[wanted.position]
        found = images if wanted.name is None else [image for image in images if wanted.name in image.tags]
        if len(found) == 1:
            return found[0]
        tags = ", ".join(sorted(tag for image in images for tag in image.tags)[:8])
        problem = f"{len(found)} images" if wanted.name is None else f"no image of the name {wanted.name}"
        raise ImageNotFoundError(
            f"expected one image, found {problem}",
            hint=f"choose one with :NAME or :@INDEX; names there: {tags or 'none'}",
        )

    def _describe_layers(self, saved: _Saved, config: ImageConfig) -> list[Descriptor]:
        if len(saved.layers) != len(config.diff_ids):
            raise ManifestError(
                f"config {saved.config}: rootfs.diff_ids: expected {len(saved.layers)}, as there are layers,"
                f" found {len(config.diff_ids)}"
            )
        return [
            self._describe_layer(name, diff_id)
            for name, diff_id in zip(saved.layers, config.diff_ids, strict=True)
        ]

    def _describe_layer(self, name: str, diff_id: OciDigest) -> Descriptor:
        """Return what a layer is; one that is not compressed must have the digest that the config says."""
        reader = self._open(name)
        try:
            head = reader.read(_HEAD_BYTES)
            compression = detect_compression(head)
            if compression is Compression.XZ:
                raise SourceError(f"{name}: expected a layer that is plain, gzip or zstd, found xz")
            digest = diff_id if compression is Compression.NONE else _digest(reader, head)
        finally:
            reader.close()
        self._blobs[digest] = name
        return Descriptor(tar_layer_type(compression), digest, reader.size, {})

    def _read(self, name: str) -> bytes:
        reader = self._open(name)
        try:
            return read_blob(reader, MAX_DOCUMENT_BYTES)
        finally:
            reader.close()

    def _open(self, name: str) -> BlobReader:
        try:
            return self._files.open(name)
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"{name}: no such file in {self._files.path}") from error

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; see `cfsctl.oci.source.ImageSource`."""
        name = self._blobs.get(descriptor.digest)
        if name is None:
            raise ImageNotFoundError(f"blob {descriptor.digest}: no such blob in {self._files.path}")
        reader = self._open(name)
        return check_blob(reader, descriptor)

    def close(self) -> None:
        """Release the archive."""
        self._files.close()


def _digest(reader: BlobReader, head: bytes) -> OciDigest:
    """Return the digest of a file of which the beginning was read."""
    computed = OciDigest("sha256", "").new_hash()
    data = head
    while data:
        computed.update(data)
        data = reader.read(_READ_BYTES)
    return OciDigest("sha256", computed.hexdigest())


def _parse_list(data: bytes) -> list[_Saved]:
    value = parse_value(data, "manifest.json")
    if not isinstance(value, list) or len(value) > _MAX_IMAGES:
        raise SourceError(f"manifest.json: expected a list of at most {_MAX_IMAGES} images")
    return [_parse_saved(item, index) for index, item in enumerate(value)]


def _parse_saved(item: object, index: int) -> _Saved:
    what = f"manifest.json[{index}]"
    if not isinstance(item, dict):
        raise SourceError(f"{what}: expected a JSON object")
    fields = JsonFields(item, what)
    layers = fields.get_list_of_strings("Layers")
    if len(layers) > MAX_LAYERS:
        raise SourceError(f"{what}: Layers: expected at most {MAX_LAYERS}, found {len(layers)}")
    tags = fields.get_list_of_strings("RepoTags") if fields.find_list("RepoTags") is not None else []
    return _Saved(fields.get_string("Config"), tuple(map(_normalize, tags)), tuple(layers))


def _normalize(tag: str) -> str:
    """Return the full name, or the name unchanged if it is invalid."""
    try:
        return str(parse_image_name(tag))
    except FormatError:
        return tag
