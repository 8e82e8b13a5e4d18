"""Objects of the repository whose bytes a commit stream has inline.

A commit stream has files of up to 64 or 128 bytes in itself, by the hash of the repository; an image has
those of more than 64 bytes as objects. Where an image was there before its commit, or was made elsewhere, it
needs such objects, and the stream can give them back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.objects import OstreeObjectError, parse_zlib_file_header

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.ostree.store.commit_stream import CommitStream


def find_inline(
    stream: CommitStream, wanted: Collection[ObjectID], algorithm: Algorithm
) -> dict[ObjectID, bytes]:
    """Return those of the objects that a commit has inline, with their bytes, which have these IDs.

    Args:
        stream: The commit, or a part of one.
        wanted: The objects.
        algorithm: Hash algorithm of the IDs.
    """
    found: dict[ObjectID, bytes] = {}
    if not wanted:
        return found
    for content in _iter_contents(stream):
        object_id = compute_digest(content, algorithm)
        if object_id in wanted:
            found[object_id] = content
    return found


def _iter_contents(stream: CommitStream) -> Iterator[bytes]:
    """Yield the contents of files that are inline."""
    for checksum in stream:
        found = stream.find(checksum)
        if found is None or found[1] is not None:
            continue
        try:
            header = parse_zlib_file_header(found[0])
        except OstreeObjectError:
            continue  # metadata, most likely; damaged files are reported when the commit is read
        content = found[0][header.length_bytes :]
        if content and len(content) == header.size_bytes:
            yield content
