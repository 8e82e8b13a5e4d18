"""What a push needs of a destination."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING, Protocol, runtime_checkable

from cfsctl.errors import CfsError

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor


class DestinationError(CfsError):
    """A destination that cannot take an image."""


@runtime_checkable
class MountingDestination(Protocol):
    """A place that can take a blob from another repository of the same registry."""

    @property
    def host(self) -> str:
        """The registry."""

    def try_mount(self, descriptor: Descriptor, path: str) -> bool:
        """Take a blob from another repository; return whether that has worked.

        Args:
            descriptor: What it is.
            path: The other repository.
        """


class ImageDestination(Protocol):
    """A place that takes an image: all blobs first, then the manifest."""

    @property
    def name(self) -> str:
        """What messages call the place."""

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether a blob already exists."""

    def put_blob(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        """Store a blob.

        Args:
            descriptor: What it is; its size and digest are right.
            file: Its content, from where the file stands.
        """

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest under the name of the place, after which the image is complete."""

    def put_listed(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest or index that an index refers to; it gets no other name."""

    def put_referrer(self, subject: OciDigest, descriptor: Descriptor, data: bytes) -> None:
        """Store the manifest of an artifact so that it is found by the manifest that it is about.

        Args:
            subject: What it is about, which may be stored later.
            descriptor: What it is, with its artifact type and annotations.
            data: The manifest.

        Raises:
            DestinationError: There is no place for it.
        """

    def close(self) -> None:
        """Release everything; an image without its manifest leaves no name behind."""
