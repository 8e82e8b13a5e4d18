"""Choosing the image for a platform among those that an index lists, also in indexes below it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import Platform, matches, parse_config, parse_index, parse_manifest
from cfsctl.oci.media_types import INDEXES, MANIFESTS
from cfsctl.oci.source import FoundManifest, ImageNotFoundError, SourceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.oci.manifest import Descriptor

    ReadDocument = Callable[[Descriptor, str], bytes]
    """Returns a document, by its descriptor and what messages call it; size and digest have been checked."""

_MAX_DEPTH: Final = 8
"""Deepest index that is looked into."""

_MAX_INDEXES: Final = 64
"""Most indexes that are looked into: indexes that name each other in turn have no end."""


class PlatformChoice:
    """Finds the first manifest for a platform."""

    def __init__(self, read_document: ReadDocument, platform: Platform) -> None:
        """Read nothing yet."""
        self._read = read_document
        self._platform = platform
        self._available: list[str] = []
        self._indexes_left = _MAX_INDEXES

    def choose(self, candidates: Iterable[Descriptor], depth: int = 0) -> FoundManifest:
        """Return the manifest.

        Args:
            candidates: Manifests and indexes to choose from.
            depth: How many indexes have led to them.

        Raises:
            ImageNotFoundError: None of them is for the platform.
            FormatError: The data is invalid.
        """
        for descriptor in self._resolve(candidates, depth):
            found = convert_manifest(descriptor, self._read(descriptor, "manifest"))
            return found._replace(is_chosen=True)
        raise ImageNotFoundError(
            f"No manifest found for platform {self._platform};"
            f" available: {', '.join(self._available) or 'nothing'}",
            hint="choose another one with --platform",
        )

    def _resolve(self, candidates: Iterable[Descriptor], depth: int) -> Iterator[Descriptor]:
        """Yield the manifests among candidates that are for the platform, the first one first."""
        candidates = list(candidates)
        for descriptor in candidates:
            if descriptor.media_type in INDEXES:
                inner = parse_index(self._open_index(descriptor, depth), f"index {descriptor.digest}")
                yield from self._resolve(inner, depth + 1)
            elif descriptor.media_type not in MANIFESTS:
                raise SourceError(
                    f"manifest {descriptor.digest}: Unexpected media type {descriptor.media_type}"
                )
            elif self._is_for(descriptor, is_only=len(candidates) == 1):
                yield descriptor

    def _open_index(self, descriptor: Descriptor, depth: int) -> bytes:
        self._indexes_left -= 1
        if depth >= _MAX_DEPTH or self._indexes_left < 0:
            raise SourceError(f"index {descriptor.digest}: image indices are nested too deeply")
        return self._read(descriptor, "index")

    def _is_for(self, descriptor: Descriptor, *, is_only: bool) -> bool:
        """Return whether a manifest is for the platform; what its descriptor says is trusted."""
        found = descriptor.platform
        if found is None:
            found = self._find_platform(descriptor)
            if found is None and is_only:
                return True  # an artifact, and nothing to choose from
            self._available.append("(no platform info)" if found is None else f"{found} (of its config)")
        else:
            self._available.append(str(found))
        return found is not None and matches(found, self._platform)

    def _find_platform(self, descriptor: Descriptor) -> Platform | None:
        """Return what a manifest's config says; None for an artifact, which has no platform."""
        data = self._read(descriptor, "manifest")
        manifest = parse_manifest(convert_manifest(descriptor, data).data, f"manifest {descriptor.digest}")
        if not manifest.is_container:
            return None
        config = self._read(manifest.config, "config")
        return parse_config(config, f"config {manifest.config.digest}").platform
