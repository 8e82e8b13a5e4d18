"""Parsers for manifests, indexes and configs.

All documents are stored byte for byte as received; parsed values are never written back.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import FormatError
from cfsctl.json_fields import JsonFields, parse_object
from cfsctl.oci.digest import OciDigest, parse_digest
from cfsctl.oci.media_types import CONFIG, is_statement

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LAYERS: Final = 4096
"""Most layers of an image, and entries of an index; real ones have some hundreds at most."""

_MAX_URLS: Final = 16

_KNOWN_KEYS: Final = frozenset(
    {
        "annotations",
        "architecture",
        "artifactType",
        "config",
        "diff_ids",
        "digest",
        "layers",
        "manifests",
        "mediaType",
        "os",
        "platform",
        "rootfs",
        "schemaVersion",
        "size",
        "subject",
        "urls",
        "variant",
    }
)


class ManifestError(FormatError):
    """A manifest, index or config that is not valid, or does not go with the others."""


class Platform(NamedTuple):
    """What an image runs on.

    Attributes:
        os: For example ``linux``.
        architecture: For example ``amd64``.
        variant: For example ``v8``, or empty.
    """

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        """Return it as the command line takes it."""
        return "/".join(filter(None, self))


def matches(found: Platform, wanted: Platform) -> bool:
    """Return whether an image for one platform runs on another; a variant only counts where both have one."""
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        return False
    return not wanted.variant or found.variant in {"", wanted.variant}


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a document says about a blob that it refers to.

    Attributes:
        media_type: What the blob is.
        digest: Its digest.
        size: Its size in bytes.
        annotations: Additional information.
        platform: What it runs on, if that is said.
        artifact_type: What an artifact is, or None.
        urls: Where else the blob may be, as whoever has made the image says.
    """

    media_type: str
    digest: OciDigest
    size: int
    annotations: Mapping[str, str]
    platform: Platform | None = None
    artifact_type: str | None = None
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest.

    Attributes:
        config: The config.
        layers: The layers, lowest first.
        artifact_type: What an artifact is, or None.
        annotations: Additional information.
        subject: What an artifact is about, or None.
    """

    config: Descriptor
    layers: tuple[Descriptor, ...]
    artifact_type: str | None
    annotations: Mapping[str, str]
    subject: Descriptor | None

    @property
    def is_container(self) -> bool:
        """Whether this is an image with a file system, and not an artifact."""
        if self.config.media_type != CONFIG:
            return False
        return not self.layers or any(not is_statement(layer.media_type) for layer in self.layers)


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """A config of an image with a file system.

    Attributes:
        platform: What it runs on.
        diff_ids: Digests of the unpacked layers, lowest first.
        created: When it was made, as it says, or None.
        labels: Additional information.
    """

    platform: Platform
    diff_ids: tuple[OciDigest, ...]
    created: str | None
    labels: Mapping[str, str]


def parse_manifest(data: bytes, what: str = "manifest") -> Manifest:
    """Return the manifest that a document is.

    Raises:
        JsonError, OciDigestError, ManifestError: It is invalid; the message has the path of the key.
    """
    fields = parse_object(data, what, _KNOWN_KEYS)
    fields.get_size("schemaVersion")
    config = _parse_descriptor(fields.get_fields("config"), f"{what}: config")
    layers = [
        _parse_descriptor(layer, f"{what}: layers[{index}]")
        for index, layer in enumerate(_bounded(fields.get_list_of_fields("layers"), f"{what}: layers"))
    ]
    subject = fields.find_fields("subject")
    return Manifest(
        config,
        tuple(layers),
        fields.find_string("artifactType"),
        fields.find_strings("annotations"),
        None if subject is None else _parse_descriptor(subject, f"{what}: subject"),
    )


def parse_index(data: bytes, what: str = "index") -> tuple[Descriptor, ...]:
    """Return what an index refers to.

    Raises:
        JsonError, OciDigestError, ManifestError: It is invalid; the message has the path of the key.
    """
    fields = parse_object(data, what, _KNOWN_KEYS)
    fields.get_size("schemaVersion")
    entries = _bounded(fields.get_list_of_fields("manifests"), f"{what}: manifests")
    return tuple(
        _parse_descriptor(entry, f"{what}: manifests[{index}]") for index, entry in enumerate(entries)
    )


def parse_config(data: bytes, what: str = "config") -> ImageConfig:
    """Return the config that a document is.

    Raises:
        JsonError, OciDigestError, ManifestError: It is invalid; the message has the path of the key.
    """
    fields = parse_object(data, what, _KNOWN_KEYS)
    rootfs = fields.get_fields("rootfs")
    rootfs.get_string("type")
    texts = rootfs.get_list_of_strings("diff_ids")
    if len(texts) > MAX_LAYERS:
        raise ManifestError(f"{what}: rootfs.diff_ids: expected at most {MAX_LAYERS}, found {len(texts)}")
    details = fields.find_fields("config")
    return ImageConfig(
        _parse_platform(fields),
        tuple(parse_digest(text, f"{what}: rootfs.diff_ids[{index}]") for index, text in enumerate(texts)),
        fields.find_string("created"),
        {} if details is None else details.find_strings("Labels"),
    )


def _bounded(entries: list[JsonFields], what: str) -> list[JsonFields]:
    if len(entries) > MAX_LAYERS:
        raise ManifestError(f"{what}: expected at most {MAX_LAYERS} entries, found {len(entries)}")
    return entries


def _parse_descriptor(fields: JsonFields, what: str) -> Descriptor:
    platform = fields.find_fields("platform")
    return Descriptor(
        fields.get_string("mediaType"),
        parse_digest(fields.get_string("digest"), f"{what}.digest"),
        fields.get_size("size"),
        fields.find_strings("annotations"),
        None if platform is None else _parse_platform(platform),
        fields.find_string("artifactType"),
        _parse_urls(fields, what),
    )


def _parse_urls(fields: JsonFields, what: str) -> tuple[str, ...]:
    if fields.find_list("urls") is None:
        return ()
    urls = tuple(fields.get_list_of_strings("urls"))
    if len(urls) > _MAX_URLS:
        raise ManifestError(f"{what}.urls: expected at most {_MAX_URLS}, found {len(urls)}")
    return urls


def _parse_platform(fields: JsonFields) -> Platform:
    return Platform(
        fields.get_string("os"), fields.get_string("architecture"), fields.find_string("variant") or ""
    )
