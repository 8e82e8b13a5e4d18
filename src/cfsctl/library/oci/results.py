"""Results that the library composes itself of what the rooms below know of OCI images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.errors import CfsError
    from cfsctl.library.ids import ObjectID
    from cfsctl.library.results import RefSize
    from cfsctl.oci.check import OciReport
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Platform
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.store.layers import LayerFacts, StoredLayer
    from cfsctl.oci.store.listing import ImageSummary
    from cfsctl.repository.check.report import FsckReport
    from cfsctl.tree.transform import XattrFilter


@dataclass(frozen=True, slots=True, kw_only=True)
class OciInspection:
    """A stored image or artifact.

    Attributes:
        digest: The digest of its manifest.
        manifest: The manifest, byte for byte.
        config: The config, byte for byte.
        manifest_stream: The stream of the manifest.
        config_stream: The stream of the config.
        referrers: Artifacts about it, ascending.
        image: The file system image in the repository's default format, or None.
        boot_image: The boot image in that format, or None.
    """

    digest: OciDigest
    manifest: bytes
    config: bytes
    manifest_stream: ObjectID
    config_stream: ObjectID
    referrers: tuple[OciDigest, ...]
    image: ObjectID | None
    boot_image: ObjectID | None

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON, in the order of its keys."""
        return {
            "manifest": self.manifest.decode("utf-8", "replace"),
            "config": self.config.decode("utf-8", "replace"),
            "referrers": [str(digest) for digest in self.referrers],
            "composefs_erofs": _hex(self.image),
            "composefs_boot_erofs": _hex(self.boot_image),
        }


class OciIndexEntry(NamedTuple):
    """An image or artifact of an index.

    Attributes:
        digest: Its manifest.
        platform: What it runs on, as the index or its config says; None for artifacts.
    """

    digest: OciDigest
    platform: Platform | None


@dataclass(frozen=True, slots=True, kw_only=True)
class OciIndexInspection:
    """A stored index.

    Attributes:
        digest: Its digest.
        document: The index, byte for byte.
        stream: Its stream.
        entries: The images and artifacts that it leads to, each once.
        referrers: Artifacts about it, ascending.
    """

    digest: OciDigest
    document: bytes
    stream: ObjectID
    entries: tuple[OciIndexEntry, ...]
    referrers: tuple[OciDigest, ...]

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON, in the order of its keys."""
        return {
            "index": self.document.decode("utf-8", "replace"),
            "digest": str(self.digest),
            "manifests": [
                {"digest": str(entry.digest), "platform": entry.platform and str(entry.platform)}
                for entry in self.entries
            ],
            "referrers": [str(digest) for digest in self.referrers],
        }


class OciPullOutcome(NamedTuple):
    """What became of one of several images that were to be pulled.

    Attributes:
        source: Its reference.
        result: What was pulled, or None.
        error: Why it was not, or None.
    """

    source: str
    result: PullResult | None
    error: CfsError | OSError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListedOciImage:
    """A tag of an image.

    Attributes:
        summary: The image.
        kept: How many images that the tag named before are kept.
        sizes: What it needs, if that was asked for.
    """

    summary: ImageSummary
    kept: int
    sizes: RefSize | None


class LinkedImage(NamedTuple):
    """A file system image that was made of an OCI image.

    Attributes:
        image_id: The image.
        is_bootable: Whether it is a boot image.
        is_version_2: Whether it has format 2, and not 0 or 1.
        xattrs: Extended attributes that it keeps.
    """

    image_id: ObjectID
    is_bootable: bool
    is_version_2: bool
    xattrs: XattrFilter


class OciLinkedManifest(NamedTuple):
    """An OCI image that a file system image was made of.

    Attributes:
        digest: Its manifest.
        tags: Its tags, sorted.
        images: All file system images that were made of it.
    """

    digest: OciDigest
    tags: tuple[str, ...]
    images: tuple[LinkedImage, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class OciFsckReport:
    """What a check of a repository and its OCI images has found.

    Attributes:
        repository: The whole repository.
        images: The OCI images: how many were `checked` and `corrupted`, and the `findings`.
    """

    repository: FsckReport
    images: OciReport

    @property
    def is_ok(self) -> bool:
        """Whether nothing was found."""
        return self.repository.is_ok and self.images.is_ok

    def lines(self) -> tuple[str, ...]:
        """Return the report as text."""
        return (*self.repository.lines(), *self.images.lines())

    def as_dict(self) -> dict[str, object]:
        """Return it as it is printed in JSON, in the order of its keys."""
        return {
            "ok": self.is_ok,
            "images_checked": self.images.checked,
            "images_corrupted": self.images.corrupted,
            "errors": self.images.findings,
            "repo": self.repository.as_dict(),
        }


class OciLayer:
    """A stored layer, readable as long as its repository is open."""

    def __init__(self, layer: StoredLayer, stream_id: ObjectID) -> None:
        """Wrap a layer of the room below."""
        self._layer = layer
        self._stream_id = stream_id

    def __repr__(self) -> str:
        """Return its digest."""
        return f"<{type(self).__name__} {self.digest}>"

    @property
    def digest(self) -> OciDigest:
        """Digest of the uncompressed layer, as in the config."""
        return self._layer.digest

    @property
    def stream_id(self) -> ObjectID:
        """The stream that the layer is stored in."""
        return self._stream_id

    def measure(self) -> LayerFacts:
        """Return what the layer consists of; this reads it.

        Raises:
            FormatError, IntegrityError: It is damaged.
        """
        return self._layer.measure()

    def read(self, write: Callable[[bytes | memoryview], object]) -> None:
        """Restore the uncompressed archive, and call a function with each piece of it.

        Raises:
            FormatError, IntegrityError: It is damaged, or an object is missing.
        """
        self._layer.cat(write)

    def iter_sent(self, directory: int) -> Iterator[bytes | memoryview]:
        """Return it as a splitdirfdstream, for a process that has the directory of the objects open.

        Args:
            directory: The number that the other process knows that directory by.

        Raises:
            FormatError, IntegrityError: It is damaged.
        """
        from cfsctl.oci.layer_transfer import iter_sent

        return iter_sent(self._layer, directory)

    def iter_dump(self) -> Iterator[bytes]:
        """Return its entries as lines of a composefs dump: not merged, and with whiteouts as files.

        Raises:
            FormatError: It is damaged; what came before has been delivered.
        """
        from cfsctl.oci.layer_dump import iter_layer_dump

        return iter_layer_dump(self._layer)


def _hex(object_id: ObjectID | None) -> str | None:
    return None if object_id is None else object_id.hex()
