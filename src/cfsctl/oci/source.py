"""The interface of a source of images, and what all of them need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple, Protocol, runtime_checkable

from cfsctl.errors import FormatError, RefNotFoundError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES
from cfsctl.oci.context import naming

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor, Platform


class SourceError(FormatError):
    """A source that cannot be used, or holds something unexpected."""


class ImageNotFoundError(RefNotFoundError):
    """A source that does not have what was asked for."""


class BlobReader(Protocol):
    """A blob that is read from its start to its end.

    Attributes:
        size: Bytes that it has, as its source says.
    """

    size: int

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end."""

    def close(self) -> None:
        """Release it; may be called again."""


class FileRange:
    """A range of an open file, read by offset, so that processes can share the file.

    Attributes:
        size: Bytes of the range.
    """

    def __init__(self, fd: int, start: int, size: int, *, owns: bool) -> None:
        """Take a descriptor, and close it in the end if `owns`."""
        self.size = size
        self._fd = fd
        self._place = start
        self._end = start + size
        self._owns = owns

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many."""
        data = os.pread(self._fd, min(size, self._end - self._place), self._place)
        self._place += len(data)
        return data

    def take_fd(self) -> int:
        """Return the descriptor, which is the caller's from now on."""
        fd, self._fd = self._fd, -1
        return fd

    def close(self) -> None:
        """Release the file."""
        if self._owns and self._fd >= 0:
            os.close(self._fd)
        self._fd = -1


class BytesBlob:
    """A blob in memory.

    Attributes:
        size: Bytes that it has.
    """

    def __init__(self, data: bytes) -> None:
        """Begin at the start."""
        self.size = len(data)
        self._left = memoryview(data)

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many."""
        data, self._left = bytes(self._left[:size]), self._left[size:]
        return data

    def close(self) -> None:
        """There is nothing to release."""


class FoundManifest(NamedTuple):
    """The manifest that was requested.

    Attributes:
        digest: Its digest, which has been checked.
        data: The manifest.
        is_chosen: Whether an index has said that it is for the platform; that is believed.
        original: The digest of the manifest that this one was converted from, or None.
    """

    digest: OciDigest
    data: bytes
    is_chosen: bool = False
    original: OciDigest | None = None


class ImageSource(Protocol):
    """A place that has an image. Blobs may be opened in forked processes at the same time."""

    @property
    def name(self) -> str:
        """What messages call the image."""

    def find_manifest(self, platform: Platform) -> FoundManifest:
        """Return the manifest for a platform.

        Raises:
            ImageNotFoundError: None exists.
            FormatError: The data is invalid.
        """

    def open_blob(self, descriptor: Descriptor) -> BlobReader:
        """Open a blob; its digest has not been checked.

        Raises:
            ImageNotFoundError: It does not exist.
            SourceError: It has another size.
        """

    def close(self) -> None:
        """Release everything; may be called again."""


@runtime_checkable
class ResumableSource(Protocol):
    """A source that can give a blob from any place on."""

    def open_blob_at(self, descriptor: Descriptor, offset: int) -> BlobReader:
        """Open a blob at an offset; see `ImageSource.open_blob`."""


@runtime_checkable
class IndexedSource(Protocol):
    """A source of whole indexes, and of artifacts about an image (referrers)."""

    def read_named(self) -> tuple[Descriptor, bytes]:
        """Return the manifest or index that the reference leads to, whose digest has been checked.

        Raises:
            ImageNotFoundError: It does not exist.
            FormatError: It is not valid.
        """

    def read_listed(self, descriptor: Descriptor, what: str) -> bytes:
        """Return a document that an index or manifest refers to; its size and digest have been checked.

        Args:
            descriptor: What it is.
            what: What messages call it.

        Raises:
            ImageNotFoundError: It does not exist.
            SourceError, ReceivedDigestError: It is another one.
        """

    def list_referrers(self, subject: OciDigest) -> list[Descriptor]:
        """Return what the source says is about a manifest or index; nothing of it has been checked.

        Raises:
            FormatError: The list is not valid.
        """


def read_document(source: ImageSource, descriptor: Descriptor, what: str) -> bytes:
    """Return a document whose size and digest have been checked.

    Raises:
        ImageNotFoundError: It does not exist.
        SourceError: It is too large, or has another size.
        ReceivedDigestError: It is another one.
    """
    if descriptor.size > MAX_DOCUMENT_BYTES:
        raise SourceError(
            f"{what} {descriptor.digest}: expected at most {MAX_DOCUMENT_BYTES} bytes,"
            f" found {descriptor.size}"
        )
    with naming(what):
        reader = source.open_blob(descriptor)
    try:
        data = read_blob(reader, descriptor.size)
    finally:
        reader.close()
    check_size(what, descriptor, len(data))
    descriptor.digest.check_bytes(data, what)
    return data


def read_blob(reader: BlobReader, limit_bytes: int) -> bytes:
    """Return everything, or one byte more than the limit if there is more."""
    pieces = []
    left = limit_bytes + 1
    while left and (piece := reader.read(left)):
        pieces.append(piece)
        left -= len(piece)
    return b"".join(pieces)


def check_size(what: str, descriptor: Descriptor, found: int) -> None:
    """Compare the size of a blob with its descriptor.

    Raises:
        SourceError: It is another one.
    """
    if found != descriptor.size:
        raise SourceError(f"{what} {descriptor.digest}: Expected size {descriptor.size} but found {found}")


def check_blob(reader: BlobReader, descriptor: Descriptor) -> BlobReader:
    """Return an open blob whose size is that of its descriptor; it is closed otherwise.

    Raises:
        SourceError: It has another size.
    """
    try:
        check_size("blob", descriptor, reader.size)
    except SourceError:
        reader.close()
        raise
    return reader
