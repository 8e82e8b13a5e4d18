"""OCI image layouts: ``oci:PATH[:TAG]`` and ``oci-archive:PATH[:TAG]``.

    index.json               names manifests, or further indexes, by tag and platform
    blobs/<hash>/<digits>    everything else

The file ``oci-layout`` says nothing that is needed here, and is not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.errors import FormatError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES
from cfsctl.oci.context import naming
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import Platform, find_artifact_type, parse_config, parse_index, parse_manifest
from cfsctl.oci.media_types import DELTA_ARTIFACT, INDEXES, MANIFESTS
from cfsctl.oci.sources.base import (
    FoundManifest,
    ImageNotFoundError,
    SourceError,
    check_size,
    read_blob,
    read_document,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.reference import TaggedPath
    from cfsctl.oci.sources.base import BlobReader
    from cfsctl.oci.sources.files import LayoutFiles

_TAG_ANNOTATION: Final = "org.opencontainers.image.ref.name"
_MAX_DEPTH: Final = 8
"""Deepest index that is looked into."""

_MAX_INDEXES: Final = 64
"""Most indexes that are looked into: indexes that name each other in turn have no end."""


class LayoutSource:
    """One image of a layout."""

    def __init__(self, transport: str, files: LayoutFiles, wanted: TaggedPath) -> None:
        """Read nothing yet.

        Args:
            transport: What the reference starts with, for messages.
            files: The layout; closed with this.
            wanted: Which image of it.
        """
        self._files = files
        self._wanted = wanted
        self._indexes_left = _MAX_INDEXES
        tag = "" if wanted.tag is None else f":{wanted.tag}"
        digest = "" if wanted.digest is None else f"@{wanted.digest}"
        self._name = f"{transport}:{files.path}{tag}{digest}"

    @property
    def name(self) -> str:
        """What messages call the image."""
        return self._name

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform; see `cfsctl.oci.sources.base.ImageSource`."""
        available: list[str] = []
        for descriptor in self._resolve(self._candidates(), platform, available, 0):
            data = read_document(self, descriptor, "manifest")
            return convert_manifest(descriptor, data)
        raise ImageNotFoundError(
            f"No manifest found for platform {platform}; available: {', '.join(available) or 'nothing'}",
            hint="choose another one with --platform",
        )

    def _candidates(self) -> list[Descriptor]:
        entries = parse_index(self._read_index(), "index.json")
        tag, digest = self._wanted.tag, self._wanted.digest
        if not entries:
            raise ImageNotFoundError("Image index contains no manifests")
        if digest is not None:
            found = [entry for entry in entries if entry.digest == digest]
            if not found:
                raise ImageNotFoundError(f"Digest {digest} not found in image index")
            return found
        if tag is None:
            return list(entries)
        found = [entry for entry in entries if entry.annotations.get(_TAG_ANNOTATION) == tag]
        if not found:
            raise ImageNotFoundError(f"Tag '{tag}' not found in image index", hint=_list_tags(entries))
        return found

    def _read_index(self) -> bytes:
        try:
            reader = self._files.open("index.json")
        except FileNotFoundError as error:
            raise ImageNotFoundError("Cannot find the Image Index (index.json)") from error
        try:
            return read_blob(reader, MAX_DOCUMENT_BYTES)
        finally:
            reader.close()

    def _resolve(
        self, candidates: Iterable[Descriptor], platform: Platform, available: list[str], depth: int
    ) -> Iterator[Descriptor]:
        """Yield the manifests among candidates that are for a platform, the first one first."""
        candidates = list(candidates)
        for descriptor in candidates:
            if descriptor.media_type in INDEXES:
                inner = parse_index(self._open_index(descriptor, depth), f"index {descriptor.digest}")
                yield from self._resolve(inner, platform, available, depth + 1)
            elif descriptor.media_type not in MANIFESTS:
                raise SourceError(
                    f"manifest {descriptor.digest}: Unexpected media type {descriptor.media_type}"
                )
            elif self._is_for(descriptor, platform, available, is_only=len(candidates) == 1):
                yield descriptor

    def _open_index(self, descriptor: Descriptor, depth: int) -> bytes:
        self._indexes_left -= 1
        if depth >= _MAX_DEPTH or self._indexes_left < 0:
            raise SourceError(f"index {descriptor.digest}: image indices are nested too deeply")
        return read_document(self, descriptor, "index")

    def _is_for(
        self, descriptor: Descriptor, wanted: Platform, available: list[str], *, is_only: bool
    ) -> bool:
        """Return whether a manifest is for a platform; what its descriptor says is believed."""
        found = descriptor.platform
        if found is None:
            found = self._find_platform(descriptor)
            if found is None and is_only:
                return True  # an artifact, and nothing to choose from
            available.append("(no platform info)" if found is None else f"{found} (of its config)")
        else:
            available.append(str(found))
        return found is not None and matches(found, wanted)

    def _find_platform(self, descriptor: Descriptor) -> Platform | None:
        """Return what a manifest's config says; None for an artifact, which has no platform."""
        data = read_document(self, descriptor, "manifest")
        manifest = parse_manifest(convert_manifest(descriptor, data).data, f"manifest {descriptor.digest}")
        if not manifest.is_container:
            return None
        config = read_document(self, manifest.config, "config")
        return parse_config(config, f"config {manifest.config.digest}").platform

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; see `cfsctl.oci.sources.base.ImageSource`."""
        digest = descriptor.digest
        try:
            reader = self._files.open(f"blobs/{digest.algorithm}/{digest.encoded}")
        except FileNotFoundError as error:
            raise ImageNotFoundError(f"blob {digest}: no such blob in {self._files.path}") from error
        try:
            check_size("blob", descriptor, reader.size)
        except FormatError:
            reader.close()
            raise
        return reader

    def close(self) -> None:
        """Let go of the layout."""
        self._files.close()


def matches(found: Platform, wanted: Platform) -> bool:
    """Return whether an image for one platform runs on another; a variant only counts where both have one."""
    if (found.os, found.architecture) != (wanted.os, wanted.architecture):
        return False
    return not wanted.variant or found.variant in {"", wanted.variant}


def _list_tags(entries: Iterable[Descriptor]) -> str | None:
    tags = [entry.annotations[_TAG_ANNOTATION] for entry in entries if _TAG_ANNOTATION in entry.annotations]
    return f"tags there: {', '.join(sorted(tags)[:8])}" if tags else None


def check_not_delta(data: bytes, name: str) -> None:
    """Refuse a delta, which cannot be stored as the artifact that it is.

    Raises:
        SourceError: It is one.
    """
    if find_artifact_type(data) == DELTA_ARTIFACT:
        with naming(name):
            raise SourceError("this is a delta between two images, which cannot be applied yet")
