"""Rebuild the blobs of stored layers: restore the archives, compare their digests, and compress them."""

from __future__ import annotations

import contextlib
import os
import tempfile
from typing import IO, TYPE_CHECKING, Final, NamedTuple

from cfsctl.compression.encoders import make_encoder
from cfsctl.errors import IntegrityError
from cfsctl.oci.digest import OciDigest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType
    from typing import Self

    from cfsctl.compression import Compression
    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository

LARGE_FILES: Final = "/var/tmp"  # noqa: S108 - the files have no names
_MIN_PIECE_BYTES: Final = 1 << 16


class SpooledBlob(NamedTuple):
    """A blob in a temporary file without a name.

    Attributes:
        file: Its content, from the start.
        digest: Its digest.
        size: Its size in bytes.
        plain_digest: Digest of what it unpacks to.
    """

    file: IO[bytes]
    digest: OciDigest
    size: int
    plain_digest: OciDigest

    def __enter__(self) -> Self:
        """Return the blob itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the file."""
        self.file.close()


class BlobSpool:
    """Compresses bytes into a temporary file, and computes digests on the way."""

    def __init__(self, compression: Compression) -> None:
        """Begin an empty file in TMPDIR or /var/tmp."""
        self._encoder = make_encoder(compression)
        self._directory = os.environ.get("TMPDIR") or LARGE_FILES
        self._file: IO[bytes] = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115 - the blob has it
        self._plain, self._packed = (OciDigest("sha256", "").new_hash() for _ in range(2))
        self._size = 0
        self._small: list[bytes] = []
        self._small_bytes = 0

    def write(self, data: bytes | memoryview) -> None:
        """Process the next bytes; small pieces are put together first."""
        if len(data) >= _MIN_PIECE_BYTES and not self._small:
            self._take(data)
            return
        self._small.append(bytes(data))
        self._small_bytes += len(data)
        if self._small_bytes >= _MIN_PIECE_BYTES:
            self._take_small()

    def _take_small(self) -> None:
        data = b"".join(self._small)
        self._small.clear()
        self._small_bytes = 0
        self._take(data)

    def _take(self, data: bytes | memoryview) -> None:
        self._plain.update(data)
        self._put(self._encoder.compress(data))

    def _put(self, data: bytes) -> None:
        self._packed.update(data)
        self._size += len(data)
        with self._naming_directory():
            self._file.write(data)

    @contextlib.contextmanager
    def _naming_directory(self) -> Iterator[None]:
        """Say which disk is full: the file has no name that an error could tell."""
        try:
            yield
        except OSError as error:
            number = error.errno or 0
            raise OSError(number, os.strerror(number), f"{self._directory}: temporary file") from error

    def finish(self) -> SpooledBlob:
        """Return the blob, which the caller closes."""
        self._take_small()
        self._put(self._encoder.flush())
        with self._naming_directory():
            self._file.seek(0)  # what is buffered is written before that
        plain, packed = (OciDigest("sha256", found.hexdigest()) for found in (self._plain, self._packed))
        return SpooledBlob(self._file, packed, self._size, plain)

    def close(self) -> None:
        """Close the file; not after `finish`."""
        self._file.close()


def spool_layer(
    repository: Repository, digest: OciDigest, stream_id: ObjectID, compression: Compression
) -> SpooledBlob:
    """Return a stored layer as a blob.

    Raises:
        IntegrityError: It is not what its digest says, or something of it is missing.
        SplitstreamError: It is damaged.
    """

    def write(write: Callable[[bytes | memoryview], None]) -> None:
        with repository.streams.open_object(stream_id) as reader:
            reader.cat(write, repository.objects.open)

    blob = spool(write, compression)
    if digest.algorithm == "sha256" and blob.plain_digest != digest:
        blob.file.close()
        raise IntegrityError(
            f"layer {digest}: Layer has incorrect checksum: found {blob.plain_digest}",
            hint="remove the image and collect garbage, then pull it again",
        )
    return blob


def spool(
    produce: Callable[[Callable[[bytes | memoryview], None]], None], compression: Compression
) -> SpooledBlob:
    """Return what a function writes as a blob."""
    target = BlobSpool(compression)
    try:
        produce(target.write)
        return target.finish()
    except BaseException:
        target.close()
        raise
