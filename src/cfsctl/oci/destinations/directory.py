"""Writing one image into one directory, as skopeo does: ``dir:DIRECTORY``."""

from __future__ import annotations

import os
import shutil
from typing import IO, TYPE_CHECKING, Final

from cfsctl.linux.files import AnonymousFile
from cfsctl.oci.destinations.base import DestinationError

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor

_VERSION: Final = b"Directory Transport Version: 1.1\n"
_COPY_BYTES: Final = 1 << 20


class DirectoryDestination:
    """A directory; what it has of another image is written over or stays unused."""

    def __init__(self, path: str) -> None:
        """Make the directory if it is missing.

        Raises:
            DestinationError: It has files of another kind.
            OSError: It cannot be made.
        """
        self._path = path
        os.makedirs(path, exist_ok=True)
        if not os.path.exists(f"{path}/version") and os.listdir(path):
            raise DestinationError(f"dir:{path}: expected an empty directory or one that holds an image")
        self._dirfd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)

    @property
    def name(self) -> str:
        """What messages call the place."""
        return f"dir:{self._path}"

    def has_blob(self, descriptor: Descriptor) -> bool:
        """Return whether the directory has a file of this name and size."""
        try:
            status = os.stat(descriptor.digest.encoded, dir_fd=self._dirfd, follow_symlinks=False)
        except FileNotFoundError:
            return False
        return status.st_size == descriptor.size

    def put_blob(self, descriptor: Descriptor, file: IO[bytes]) -> None:
        """Store a blob."""
        with AnonymousFile(self._dirfd) as new:
            with open(new.fd, "wb", closefd=False) as target:
                shutil.copyfileobj(file, target, _COPY_BYTES)
            os.fsync(new.fd)
            new.replace(self._dirfd, descriptor.digest.encoded)

    def put_manifest(self, descriptor: Descriptor, data: bytes) -> None:  # noqa: ARG002 - there is one
        """Store the manifest."""
        for name, content in (("version", _VERSION), ("manifest.json", data)):
            self._write(name, content)
        os.fsync(self._dirfd)

    def put_listed(self, descriptor: Descriptor, data: bytes) -> None:
        """Store a manifest that the index in the directory refers to."""
        self._write(f"{descriptor.digest.encoded}.manifest.json", data)

    def put_referrer(self, subject: OciDigest, descriptor: Descriptor, data: bytes) -> None:  # noqa: ARG002 - there is no place
        """Fail: such a directory has one image.

        Raises:
            DestinationError: Always.
        """
        raise DestinationError(
            f"referrer of {subject}: a directory has no place for it",
            hint="push to oci:DIRECTORY:TAG instead",
        )

    def _write(self, name: str, content: bytes) -> None:
        with AnonymousFile(self._dirfd) as new:
            with open(new.fd, "wb", closefd=False) as target:
                target.write(content)
            os.fsync(new.fd)
            new.replace(self._dirfd, name)

    def close(self) -> None:
        """Close the directory; may be called again."""
        if self._dirfd >= 0:
            os.close(self._dirfd)
            self._dirfd = -1
