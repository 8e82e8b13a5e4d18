"""Stored commits against their checksums."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError
from cfsctl.ostree.commit_stream import CommitStream
from cfsctl.ostree.objects import OstreeObjectError, parse_stored_file_header
from cfsctl.ostree.refs import parse_commit_name
from cfsctl.ostree.to_tree import commit_to_filesystem
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.repository import Repository
    from cfsctl.repository.fsck_links import ContentChecks
    from cfsctl.repository.objects import ObjectStore
    from cfsctl.splitstream import SplitstreamReader

_READ_BYTES: Final = 1 << 20


def commit_checks(repository: Repository) -> ContentChecks:
    """Return how a deep check of a repository looks at commits; see `fsck_links.ContentChecks`."""

    def check(reader: SplitstreamReader, name: str) -> Iterator[str]:
        return iter_problems(repository.objects, reader, name)

    return {ContentType.OSTREE_COMMIT: check}


def iter_problems(objects: ObjectStore, reader: SplitstreamReader, name: str) -> Iterator[str]:
    """Yield what is wrong with a stored commit: everything in it is verified by its checksum.

    Objects that are missing are left out, since any check finds those.

    Args:
        objects: Where large contents are.
        reader: The commit's splitstream, borrowed.
        name: Its content identifier.
    """
    checksum = parse_commit_name(name)
    try:
        stream = CommitStream.read(reader, checksum)
        commit_to_filesystem(stream)
    except CfsError as error:
        yield str(error)
        return
    for file in stream:
        found = stream.find(file)
        assert found is not None
        data, object_id = found
        if object_id is not None and objects.contains(object_id):
            problem = _check_file(objects, file, data, object_id)
            if problem:
                yield problem


def _check_file(objects: ObjectStore, checksum: Checksum, data: bytes, object_id: ObjectID) -> str:
    """Return what is wrong with a file whose content is an object, or nothing."""
    try:
        digest = hashlib.sha256(parse_stored_file_header(data, lambda: None).regular_header)
        fd = objects.open(object_id)
        try:
            while chunk := os.read(fd, _READ_BYTES):
                digest.update(chunk)
        finally:
            os.close(fd)
    except OstreeObjectError as error:
        return str(error.about(f"file object {checksum.hex()}"))
    except (CfsError, OSError) as error:
        return f"file object {checksum.hex()}: {error}"
    if digest.digest() == checksum:
        return ""
    return f"file object {checksum.hex()}: its header and content have the checksum {digest.hexdigest()}"
