"""Sources on this machine that have the files of layers, and not the layers as blobs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Platform
    from cfsctl.oci.source import BlobReader, FoundManifest


class LayerFile(NamedTuple):
    """The content of a file where the archive has it.

    Attributes:
        fd: The open file; whoever gets this closes it.
        size: Bytes that it has.
        name: What the archive calls it.
    """

    fd: int
    size: int
    name: bytes


class LocalSource(ABC):
    """An `cfsctl.oci.source.ImageSource` that also has the files of layers."""

    @property
    @abstractmethod
    def name(self) -> str:
        """What messages call the image."""

    @abstractmethod
    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform."""

    @abstractmethod
    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a document."""

    @abstractmethod
    def iter_layer(self, diff_id: OciDigest) -> Iterator[bytes | LayerFile]:
        """Yield what the archive of a layer consists of, in order; nothing of it has been verified.

        Raises:
            FormatError: It cannot be put together.
            OSError: Something cannot be read.
        """

    @abstractmethod
    def layer_size(self, diff_id: OciDigest) -> int:
        """Return the bytes of a layer's archive as the source says, or 0; for progress only."""

    @property
    def has_blobs(self) -> bool:
        """Whether all compressed layers can be opened as blobs as well."""
        return False

    @abstractmethod
    def close(self) -> None:
        """Release everything; may be called again."""
