"""Names of images in registries: ``HOST[:PORT]/PATH[:TAG][@DIGEST]``.

A name without a host is one of Docker Hub's, and one without a path in front is an official image there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.oci.digest import parse_digest
from cfsctl.oci.reference import ImageReferenceError

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest

DOCKER_HUB: Final = "docker.io"
_DOCKER_HUB_SERVER: Final = "registry-1.docker.io"
_DOCKER_HUB_ALIASES: Final = frozenset({DOCKER_HUB, "index.docker.io", _DOCKER_HUB_SERVER})
_DEFAULT_TAG: Final = "latest"

_LABEL: Final = r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?)"
_HOST: Final = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")
_COMPONENT: Final = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_PATH: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")
_MAX_NAME_CHARACTERS: Final = 255

_DIGEST_START: Final = re.compile(r"sha[0-9]+:")


class ImageName(NamedTuple):
    """The name of an image.

    Attributes:
        host: Registry, with its port if it has another than the usual one.
        path: Repository in it.
        tag: The tag; None if the image has only a digest.
        digest: The digest, which goes before the tag; or None.
    """

    host: str
    path: str
    tag: str | None
    digest: OciDigest | None = None

    @property
    def repository(self) -> str:
        """Host and path."""
        return f"{self.host}/{self.path}"

    @property
    def reference(self) -> str:
        """What the registry knows the manifest by."""
        return str(self.digest or self.tag)

    def __str__(self) -> str:
        """Return the whole name."""
        tag = "" if self.tag is None else f":{self.tag}"
        digest = "" if self.digest is None else f"@{self.digest}"
        return f"{self.repository}{tag}{digest}"


def parse_image_name(text: str) -> ImageName:
    """Return the name that a user has typed.

    Raises:
        ImageReferenceError: It is invalid.
        OciDigestError: What follows the ``@`` is not a digest.
    """
    rest, at, digest_text = text.partition("@")
    if at and not _DIGEST_START.match(digest_text):
        # What stands before it may be a password, which belongs neither in a message nor in a request.
        raise ImageReferenceError(
            f"image name ...@{digest_text[:80]}: expected a digest after the @, found something else",
            hint="credentials go into a file: see --authfile",
        )
    digest = parse_digest(digest_text, f"image name {text}") if at else None
    name, colon, tag = rest.rpartition(":")
    if not colon or "/" in tag:
        name, tag = rest, ""
    elif not _TAG.fullmatch(tag):
        raise _invalid(text, f"expected a tag, found {tag!r}")
    host, path = split_host(name)
    fault = find_fault(host, path)
    if fault is not None:
        raise _invalid(text, fault)
    return ImageName(host, path, tag or (None if digest else _DEFAULT_TAG), digest)


def find_fault(host: str, path: str) -> str | None:
    """Return what is wrong with host and path, or None."""
    if not _HOST.fullmatch(host):
        return f"expected a host, found {host!r}"
    if not _PATH.fullmatch(path) or len(host) + len(path) > _MAX_NAME_CHARACTERS:
        return f"expected lower-case letters, digits and separators, found {path!r}"
    return None


def has_host(name: str) -> bool:
    """Return whether a name without tag begins with a host."""
    host, slash, _ = name.partition("/")
    return bool(slash) and ("." in host or ":" in host or host == "localhost" or host != host.lower())


def split_host(name: str) -> tuple[str, str]:
    """Return host and path of a name without tag; either may be invalid."""
    host, _, path = name.partition("/")
    if not has_host(name):
        host, path = DOCKER_HUB, name
    if host in _DOCKER_HUB_ALIASES:
        return DOCKER_HUB, path if "/" in path else f"library/{path}"
    return host, path


def server_of(host: str) -> str:
    """Return the server behind a registry's name."""
    return _DOCKER_HUB_SERVER if host == DOCKER_HUB else host


def _invalid(text: str, reason: str) -> ImageReferenceError:
    return ImageReferenceError(f"image name {text}: {reason}", hint="for example quay.io/NAME/IMAGE:TAG")
