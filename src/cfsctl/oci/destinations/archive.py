"""Writing OCI archives: ``oci-archive:FILE[:TAG]``, an uncompressed tar of a layout with one image.

The file gets its name when it is complete, in place of one that was there. The same image makes the same
bytes.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import IO, TYPE_CHECKING

from cfsctl.linux.files import AnonymousFile, fsync_directory
from cfsctl.oci.destinations.base import DestinationError
from cfsctl.oci.destinations.layout import LAYOUT, index_with

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.reference import TaggedPath


class ArchiveDestination:
    """One archive with one image."""

    def __init__(self, wanted: TaggedPath) -> None:
        """Begin a file without a name.

        Raises:
            DestinationError: The reference has a digest.
            OSError: It cannot be made.
        """
        if wanted.digest is not None:
            raise DestinationError(f"oci-archive:{wanted.path}: expected a tag, found a digest")
        self._path = wanted.path
        self._tag = wanted.tag
        directory, self._file_name = os.path.split(wanted.path)
        self._dirfd = os.open(directory or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = AnonymousFile(self._dirfd)
        self._stream = open(self._file.fd, "wb", closefd=False)  # noqa: SIM115 - closed with the archive
        self._tar = tarfile.TarFile(fileobj=self._stream, mode="w", format=tarfile.USTAR_FORMAT)
        self._index: bytes | None = None
        self._blobs: set[OciDigest] = set()
        self._add("oci-layout", io.BytesIO(LAYOUT), len(LAYOUT))

    @property
    def name(self) -> str:
        """What messages call the place."""
        return f"oci-archive:{self._path}{'' if self._tag is None else f':{self._tag}'}"

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether the blob was written already."""
        return descriptor.digest in self._blobs

    def put_blob(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        """Write a blob."""
        digest = descriptor.digest
        self._add(f"blobs/{digest.algorithm}/{digest.encoded}", file, descriptor.size)
        self._blobs.add(digest)

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:
        """Write manifest and index, and give the file its name."""
        self.put_listed(descriptor, data)
        index = index_with(self._index, descriptor, self._tag)
        self._add("index.json", io.BytesIO(index), len(index))
        self._tar.close()
        self._stream.close()
        os.fsync(self._file.fd)
        self._file.replace(self._dirfd, self._file_name)
        fsync_directory(self._dirfd)

    def put_listed(self, descriptor: Descriptor, data: bytes) -> None:
        """Write a manifest that an index refers to."""
        if not self.has_blob(descriptor):
            self.put_blob(descriptor, io.BytesIO(data))

    def put_referrer(self, subject: OciDigest, descriptor: Descriptor, data: bytes) -> None:  # noqa: ARG002 - which the manifest names
        """Write the manifest of an artifact, which the index lists without a tag."""
        self.put_listed(descriptor, data)
        self._index = index_with(self._index, descriptor, None)

    def _add(self, name: str, file: IO[bytes], size: int) -> None:
        info = tarfile.TarInfo(name)
        info.size = size
        info.mode = 0o644
        # Sizes beyond the 8 GiB that ustar has room for need another format.
        self._tar.format = tarfile.USTAR_FORMAT if size < 1 << 33 else tarfile.PAX_FORMAT
        self._tar.addfile(info, file)

    def close(self) -> None:
        """Close the file, which is discarded without its manifest. Harmless when repeated."""
        if self._dirfd < 0:
            return
        self._file.close()
        os.close(self._dirfd)
        self._dirfd = -1
