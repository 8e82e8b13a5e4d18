"""Memory of images: which image was made of which tree, so that the same image need not be built again.

One file, ``.cfsctl-image-memory`` in the repository's directory, replaced as a whole:

    magic       8 bytes
    records     the newest last: key (32 bytes), size of the image (8 bytes), its object ID
    checksum    SHA-256 of everything before it

A key is a digest of everything that decides about the bytes of an image: the scan's fingerprint
(`cfsctl.scan.fingerprint`), the options, the hash algorithm, the format of the image, and the code that makes
it. So a record stays true for as long as it exists, in whatever repository.

The image is not believed to be there: it is read from the store, and used only if it has the right size and
digest. What follows is the same as with an image that was just built. The file itself is only used if its
checksum is right, and if no other user can have written it (`cfsctl.linux.private_files`). In every other
case the image is built, which only takes time.
"""

from __future__ import annotations

import hashlib
import marshal
import os
import struct
import sys
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.erofs.format import MAX_IMAGE_SIZE, FormatVersion
from cfsctl.errors import CfsError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.linux.files import AnonymousFile, read_all, write_all
from cfsctl.linux.private_files import is_private_directory, read_private
from cfsctl.started import STARTED_NS

if TYPE_CHECKING:
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import StoredObject
    from cfsctl.scan.fingerprint import Fingerprint
    from cfsctl.tree.transform import XattrFilter

MEMORY_NAME: Final = ".cfsctl-image-memory"

_MAGIC: Final = b"cfsimgs\1"
_CHECKSUM_SIZE: Final = 32
_DECIDING: Final = ("", "erofs", "erofs/write", "fsverity", "scan", "tree")
"""Directories of this program whose code decides about the bytes of an image."""

_CLOCK_TOLERANCE_NS: Final = 1_000_000_000
"""How far a file system's clock may be behind; it ticks every few milliseconds, or every second."""

_MAX_RECORDS: Final = 64
"""Trees that are scanned into one repository, times its formats; the oldest records go first."""


class ImageMemory:
    """The memory of one repository, for one tree."""

    def __init__(
        self, repository: Repository, tree: Fingerprint, xattr_filter: XattrFilter, *, propagate_usr: bool
    ) -> None:
        """Read the memory; it is empty if there is no trusted one.

        Args:
            repository: Which, open.
            tree: What the scan has found.
            xattr_filter: As the tree was scanned.
            propagate_usr: The same.
        """
        self._repository = repository
        self._program = _identify_program()
        self._base = (
            self._program,
            repository.algorithm.value,
            xattr_filter.value,
            propagate_usr,
            tree.digest(),
        )
        self._record = struct.Struct(f"<32sQ{repository.algorithm.digest_size}s")
        self._records: dict[bytes, tuple[int, ObjectID]] = {}
        self._has_news = False
        if self._program is not None:
            self._load()

    def recall(self, version: FormatVersion) -> tuple[bytes, ObjectID] | None:
        """Return the image in a format and its ID, or None if it is not known or not sound in the store."""
        size, object_id = self._records.get(self._key(version), (0, None))
        if object_id is None or size > MAX_IMAGE_SIZE:
            return None
        try:
            image = self._read(object_id, size)
        except (CfsError, OSError):
            return None  # building it again replaces what is damaged
        # The digest covers the size.
        is_right = len(image) == size and compute_digest(image, self._repository.algorithm) == object_id
        return (image, object_id) if is_right else None

    def _read(self, object_id: ObjectID, size: int) -> bytes:
        fd = self._repository.objects.open(object_id)
        try:
            return read_all(fd, size)
        finally:
            os.close(fd)

    def remember(self, version: FormatVersion, image: StoredObject) -> None:
        """Take the image of the tree in a format."""
        key, value = self._key(version), (image.size, image.object_id)
        if self._records.get(key) != value:
            self._records.pop(key, None)
            self._records[key] = value
            self._has_news = True

    def save(self) -> None:
        """Write the memory if there is something new; one that cannot be written is no error."""
        dirfd = self._repository.dirfd
        # In a directory that others can write to it would not be trusted.
        if self._program is None or not self._has_news or not is_private_directory(dirfd):
            return
        newest = list(self._records.items())[-_MAX_RECORDS:]
        body = _MAGIC + b"".join(self._record.pack(key, *value) for key, value in newest)
        try:
            with AnonymousFile(dirfd) as file:
                write_all(file.fd, body + hashlib.sha256(body).digest())
                file.replace(dirfd, MEMORY_NAME)
        except OSError:
            return
        self._has_news = False

    def _key(self, version: FormatVersion) -> bytes:
        return hashlib.sha256(marshal.dumps((*self._base, int(version)), 2)).digest()

    def _load(self) -> None:
        largest = len(_MAGIC) + _MAX_RECORDS * self._record.size + _CHECKSUM_SIZE
        try:
            data = read_private(self._repository.dirfd, MEMORY_NAME, largest)
        except OSError:
            return
        body, checksum = data[:-_CHECKSUM_SIZE], data[-_CHECKSUM_SIZE:]
        records = body[len(_MAGIC) :]
        is_whole = body.startswith(_MAGIC) and not len(records) % self._record.size
        if is_whole and hashlib.sha256(body).digest() == checksum:
            found = self._record.iter_unpack(records)
            self._records = {key: (size, ObjectID(object_id)) for key, size, object_id in found}


def _identify_program() -> bytes | None:
    """Return a digest of the code that makes images, or None if it cannot be told which code is running.

    A version number could stay the same when the code changes.
    """
    try:
        return _digest_code(os.path.dirname(os.path.dirname(__file__)))
    except OSError:
        return None  # packed in a way that hides it


def _digest_code(package: str) -> bytes | None:
    digest = hashlib.sha256(sys.version.encode())
    for directory in _DECIDING:
        with os.scandir(os.path.join(package, directory)) as listing:
            files = sorted((entry.name, entry.path) for entry in listing if entry.is_file())
        for name, path in files:
            with open(path, "rb") as stream:
                if os.fstat(stream.fileno()).st_ctime_ns >= STARTED_NS - _CLOCK_TOLERANCE_NS:
                    return None  # replaced, perhaps after it was loaded into this process
                content = stream.read()
            digest.update(marshal.dumps((directory, name, content), 2))
    return digest.digest()
