"""Detached metadata of a commit, which is added after it was made, mainly signatures.

A repository of OSTree keeps it as an object named after the commit, ``objects/xx/rest.commitmeta``. Here it
is an object that the commit's stream names ``ostree.commitmeta``, so that it lives as long as the commit.

Format: a{sv}, normal form.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl import gvariant
from cfsctl.ostree.objects import MAX_COMMIT_VALUES, MAX_DETACHED_SIZE, OstreeObjectError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.reader import ObjectReader

_TYPE: Final = gvariant.parse_type("a{sv}")


def check_detached(commit: Checksum, data: bytes) -> None:
    """Check that these bytes can be the detached metadata of a commit; nothing says that they are.

    Raises:
        OstreeObjectError: They cannot.
    """
    try:
        gvariant.decode(_TYPE, data, max_values=MAX_COMMIT_VALUES)
    except gvariant.GVariantError as error:
        raise OstreeObjectError(
            f"detached metadata of commit {commit.hex()}: {error}", offset=error.offset, field=error.field
        ) from error


def store_detached(repository: Repository, data: bytes) -> ObjectID:
    """Store detached metadata, which the stream of its commit has to name then."""
    return repository.objects.ensure_bytes(data).object_id


def read_detached(repository: Repository, stream: CommitStream) -> bytes | None:
    """Return the detached metadata of a stored commit, or None if it has none.

    Raises:
        IntegrityError: The object is missing, or damaged.
        OstreeObjectError: It is not detached metadata.
    """
    data = read_unchecked(repository.objects, stream)
    if data is not None:
        check_detached(stream.checksum, data)
    return data


def read_unchecked(objects: ObjectReader, stream: CommitStream) -> bytes | None:
    """Return the object that a stream names as detached metadata, without checking it.

    Raises:
        IntegrityError: The object is missing, or damaged.
        OstreeObjectError: It is larger than any detached metadata may be; it is not read then.
    """
    if stream.detached is None:
        return None
    status = objects.stat(stream.detached)
    if status is not None and status.st_size > MAX_DETACHED_SIZE:
        raise OstreeObjectError(
            f"detached metadata of commit {stream.checksum.hex()}:"
            f" expected at most {MAX_DETACHED_SIZE} bytes, found {status.st_size}"
        )
    return objects.read(stream.detached)
