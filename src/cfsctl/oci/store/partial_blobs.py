"""The first parts of blobs whose transfer was interrupted, kept so that the next pull fetches only the rest.

    $REPO/.cfsctl-blob-<sha256>     the blob as far as it came; gone when its layer has a name, or with gc

The file is written while the blob is read for the first time, and read first when it is wanted again. Nothing
about it is believed: its bytes go through the same digests as those that come from the server. If they turn
out to be wrong, for example after a power failure, the file is removed and the whole blob is fetched.

Only one process uses a file; others do without. A file that cannot be written is no error: it only saves
time.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.linux.files import write_all
from cfsctl.linux.private_files import NotPrivateError, check_private_file
from cfsctl.repository.gc.prefixes import PARTIAL_BLOB_PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Self

    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.source import BlobReader
    from cfsctl.repository import Repository

MIN_PARTIAL_BYTES: Final = 4 << 20
"""Blobs that are smaller are fetched again."""

_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class PartialBlob:
    """A blob that is read from its file first, and then from its source; see `cfsctl.oci.source.BlobReader`.

    Attributes:
        size: Bytes of the blob.
        resumed: Bytes that the file had.
    """

    def __init__(self, repository: Repository, fd: int, descriptor: Descriptor) -> None:
        """Take the open and locked file; `open_partial` is the way here."""
        self.size = descriptor.size
        self.resumed = os.fstat(fd).st_size
        self._root = repository.dirfd
        self._digest = descriptor.digest
        self._fd = fd
        self._place = 0
        self._rest: BlobReader | None = None
        self._open_rest: Callable[[int], BlobReader] | None = None
        self._is_kept = True

    def from_source(self, open_rest: Callable[[int], BlobReader]) -> Self:
        """Return this, with what opens the blob at an offset."""
        self._open_rest = open_rest
        return self

    def read(self, size: int, /) -> bytes:
        """Return the next bytes, at most so many; none at the end."""
        if self._place < self.resumed:
            data = os.pread(self._fd, min(size, self.resumed - self._place), self._place)
            if not data:
                raise OSError(None, "the file with the first part of a blob was shortened", str(self._digest))
        else:
            data = self._read_rest(size)
        self._place += len(data)
        return data

    def _read_rest(self, size: int) -> bytes:
        if self._place >= self.size and self.resumed == self.size:
            return b""  # the file has all of it
        if self._rest is None:
            assert self._open_rest is not None
            self._rest = self._open_rest(self._place)
        data = self._rest.read(size)
        if self._is_kept and self._place + len(data) <= self.size:
            try:
                write_all(self._fd, data)
            except OSError:  # no space, say: then it is fetched again
                self._is_kept = False
                self.discard()
        return data

    def discard(self) -> None:
        """Remove the file: what it has is wrong, or cannot be kept."""
        _remove(self._root, self._digest)

    def close(self) -> None:
        """Close file and source; what has come stays in the file."""
        rest, self._rest = self._rest, None
        if rest is not None:
            rest.close()
        if self._fd >= 0:
            os.close(self._fd)  # and gives the lock back
            self._fd = -1


def open_partial(repository: Repository, descriptor: Descriptor) -> PartialBlob | None:
    """Open the file for a blob, or return None where none is worth it, possible or allowed.

    Raises:
        OSError: It cannot be read.
    """
    if descriptor.digest.algorithm != "sha256" or descriptor.size < MIN_PARTIAL_BYTES:
        return None
    name = _name(descriptor.digest)
    try:
        fd = os.open(name, _FLAGS, 0o600, dir_fd=repository.dirfd)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            return None
        check_private_file(fd, name)
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(fd).st_size > descriptor.size:
            os.ftruncate(fd, 0)
        os.lseek(fd, 0, os.SEEK_END)
        return PartialBlob(repository, fd, descriptor)
    except (NotPrivateError, BlockingIOError):
        os.close(fd)
        return None
    except BaseException:
        os.close(fd)
        raise


def forget_partial(repository: Repository, digest: OciDigest) -> None:
    """Remove what is kept of a blob whose layer is stored."""
    if digest.algorithm == "sha256":
        _remove(repository.dirfd, digest)


def find_partial_size(repository: Repository, descriptor: Descriptor) -> int:
    """Return how many bytes of a blob are kept."""
    try:
        status = os.stat(_name(descriptor.digest), dir_fd=repository.dirfd, follow_symlinks=False)
    except OSError:
        return 0
    return status.st_size if status.st_size <= descriptor.size else 0


def _name(digest: OciDigest) -> str:
    return f"{PARTIAL_BLOB_PREFIX}{digest.encoded}"


def _remove(dirfd: int, digest: OciDigest) -> None:
    with contextlib.suppress(OSError):
        os.unlink(_name(digest), dir_fd=dirfd)
