"""Where the files of one worker go, and how much went there."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, NoReturn

from cfsctl.errors import ReceivedDigestError
from cfsctl.ostree.objects import OstreeObjectError

if TYPE_CHECKING:
    from cfsctl.digest import Algorithm, Checksum, ObjectID
    from cfsctl.repository.objects.store import ObjectStore, StoredObject


class ImportedFile(NamedTuple):
    """A verified file.

    Attributes:
        checksum: Its name.
        data: Header as stored in an archive repository, followed by the content if that is inline.
        object_id: The object that is the content, or None.
    """

    checksum: Checksum
    data: bytes
    object_id: ObjectID | None


def inline_limit(algorithm: Algorithm) -> int:
    """Return the largest content in bytes that is kept inline in the commit stream."""
    return 2 * algorithm.digest_size


class ImportTarget:
    """The store that content goes to.

    Attributes:
        objects: The store.
        inline_limit: Largest content in bytes that is not an object.
        received_bytes: Stored form of all files taken so far.
        stored_bytes: Content of new objects.
        stored_objects: Number of new objects.
    """

    def __init__(self, objects: ObjectStore) -> None:
        """Count from zero; the store is borrowed."""
        self.objects = objects
        self.inline_limit = inline_limit(objects.algorithm)
        self.received_bytes = 0
        self.stored_bytes = 0
        self.stored_objects = 0

    def count(self, stored: StoredObject) -> None:
        """Record an object that was stored, or found."""
        if stored.is_new:
            self.stored_objects += 1
            self.stored_bytes += stored.size


def file_name(checksum: Checksum) -> str:
    """Return what messages call a file."""
    return f"file object {checksum.hex()}"


def check_content(checksum: Checksum, actual: bytes) -> None:
    """Compare the SHA-256 of header and content with a file's name.

    Raises:
        ReceivedDigestError: It is another one.
    """
    if actual != checksum:
        raise ReceivedDigestError(file_name(checksum), expected=checksum.hex(), actual=actual.hex())


def fail(checksum: Checksum, expected: str, found: str, *, cause: Exception | None = None) -> NoReturn:
    """Raise the error for a file that is not as it should be."""
    raise OstreeObjectError(f"{file_name(checksum)}: expected {expected}, found {found}") from cause
