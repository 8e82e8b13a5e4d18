"""References of images to pull, as typed by users: ``transport:place``."""

from __future__ import annotations

import platform as _platform
import re
from typing import Final, NamedTuple

from cfsctl.errors import CfsError, FormatError
from cfsctl.oci.digest import OciDigest, parse_digest
from cfsctl.oci.manifest import Platform

TRANSPORTS: Final = (
    "containers-storage",
    "dir",
    "docker",
    "docker-archive",
    "docker-daemon",
    "oci",
    "oci-archive",
    "registry",
)

_DIGEST_SUFFIX: Final = re.compile(r"(.+)@(sha(?:256|384|512):[0-9a-f]+)", re.DOTALL)

_ARCHITECTURES: Final = {
    "aarch64": "arm64",
    "armv6l": "arm",
    "armv7l": "arm",
    "i386": "386",
    "i686": "386",
    "loongarch64": "loong64",
    "x86_64": "amd64",
}
"""OCI's names for what the kernel calls otherwise."""


class ImageReferenceError(FormatError):
    """Text that does not name an image."""


class UnsupportedTransportError(CfsError):
    """A known transport that cannot be read from, or written to."""


class ImageReference(NamedTuple):
    """Where an image is.

    Attributes:
        transport: One of `TRANSPORTS`.
        place: What follows the transport, without ``//``.
    """

    transport: str
    place: str


class TaggedPath(NamedTuple):
    """A path and the choice of an image at that path.

    Attributes:
        path: The path.
        tag: The tag, or None for the only image.
        digest: The digest of the manifest or index, or None.
    """

    path: str
    tag: str | None = None
    digest: OciDigest | None = None


def parse_reference(text: str) -> ImageReference:
    """Return what a reference names.

    Raises:
        ImageReferenceError: It names nothing.
    """
    transport, colon, place = text.partition(":")
    if not colon:
        raise ImageReferenceError(
            f"image reference: Missing ':' in {text}",
            hint="for example oci:DIRECTORY:TAG or docker://NAME:TAG",
        )
    if transport not in TRANSPORTS:
        raise ImageReferenceError(
            f"image reference: Invalid transport: {transport}",
            hint=f"expected one of {', '.join(TRANSPORTS)}",
        )
    if transport == "docker":
        if not place.startswith("//"):
            raise ImageReferenceError(f"image reference: Missing // in docker:// in {text}")
        place = place[2:]
    if not place:
        raise ImageReferenceError(f"image reference: Invalid empty name in {text}")
    return ImageReference(transport, place)


def is_reference(text: str) -> bool:
    """Return whether a text is the reference of an image, and not a name that it may be given.

    ``registry:2`` is the name of an image as well, so that ``registry:`` needs a path.
    """
    transport, colon, place = text.partition(":")
    if not colon or not place or transport not in TRANSPORTS:
        return False
    if transport == "docker":
        return place.startswith("//")
    return transport != "registry" or "/" in place


def split_path(place: str) -> TaggedPath:
    """Return the path and tag, or digest, of a layout or archive: ``PATH``, ``PATH:TAG`` or ``PATH@DIGEST``.

    The tag follows the last colon, unless a slash follows that.

    Raises:
        OciDigestError: What looks like a digest is invalid.
    """
    match = _DIGEST_SUFFIX.fullmatch(place)
    if match is not None:
        return TaggedPath(match[1], digest=parse_digest(match[2]))
    path, colon, tag = place.rpartition(":")
    if not colon or "/" in tag:
        return TaggedPath(place)
    return TaggedPath(path, tag)


def host_platform() -> Platform:
    """Return what this machine runs."""
    machine = _platform.machine()
    return Platform("linux", _ARCHITECTURES.get(machine, machine))


def parse_platform(text: str) -> Platform:
    """Return the platform that ``os/architecture`` or ``os/architecture/variant`` names.

    Raises:
        ImageReferenceError: It names none.
    """
    parts = text.split("/")
    if not 2 <= len(parts) <= 3 or not all(parts):
        raise ImageReferenceError(f"platform: expected os/architecture[/variant], found {text!r}")
    return Platform(*parts)
