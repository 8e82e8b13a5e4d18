"""One image or artifact of a source, that an index lists or that is about another one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.oci.source import ResumableSource

if TYPE_CHECKING:
    from cfsctl.oci.manifest import Descriptor, Platform
    from cfsctl.oci.source import BlobReader, FoundManifest, ImageSource


class ListedSource:
    """A source of which the manifest is known; see `ImageSource`."""

    def __init__(self, source: ImageSource, found: FoundManifest) -> None:
        """Take the source, which stays the caller's, and the manifest, whose digest has been checked."""
        self._source = source
        self._found = found

    @property
    def name(self) -> str:
        """What messages call the image."""
        return f"manifest {self._found.original or self._found.digest}"

    def find_manifest(self, platform: Platform) -> FoundManifest:  # noqa: ARG002 - it was chosen before
        """Return the manifest."""
        return self._found._replace(is_chosen=True)

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob."""
        return self._source.open_blob(descriptor)

    def close(self) -> None:
        """There is nothing to close."""


class _ResumableListedSource(ListedSource):
    def __init__(self, source: ResumableSource, listed: ImageSource, found: FoundManifest) -> None:
        super().__init__(listed, found)
        self._resumable = source

    def open_blob_at(self, descriptor: Descriptor, offset: int) -> BlobReader:
        """Open a blob at an offset; see `ResumableSource`."""
        return self._resumable.open_blob_at(descriptor, offset)


def listed_source(source: ImageSource, found: FoundManifest) -> ListedSource:
    """Return the source of one image of a source."""
    if isinstance(source, ResumableSource):
        return _ResumableListedSource(source, source, found)
    return ListedSource(source, found)
