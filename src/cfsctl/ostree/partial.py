"""What a pull that failed had fetched, kept for the next one.

It is stored like a commit, in a splitstream of a content type of its own under the name
``ostree-partial-<commit>``, so that nothing takes it for a whole commit. No ref names it: the next pull of
the commit takes its objects from there, a collection removes it together with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.ostree.commit_stream import CommitStream, write_commit_stream
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.repository import Repository


def partial_name(checksum: Checksum) -> str:
    """Return the content identifier of what is there of a commit."""
    return f"ostree-partial-{checksum.hex()}"


def save_partial(
    repository: Repository, checksum: Checksum, objects: Mapping[Checksum, tuple[bytes, ObjectID | None]]
) -> None:
    """Keep the objects that were fetched, in place of what was kept before.

    Args:
        repository: Where; contents are stored there already.
        checksum: The commit, which is one of the objects.
        objects: As `write_commit_stream` takes them, but not all of the commit's.

    Raises:
        OSError: It could not be stored; nothing has changed then.
    """
    stream_id = write_commit_stream(
        repository.objects, repository.algorithm, checksum, objects, content_type=ContentType.OSTREE_PARTIAL
    )
    repository.sync()
    repository.streams.link(partial_name(checksum), stream_id)


def find_partial(repository: Repository, checksum: Checksum) -> CommitStream | None:
    """Return what an earlier pull of a commit has left, or None; what is damaged counts as absent."""
    try:
        object_id = repository.streams.find(partial_name(checksum))
        if object_id is None:
            return None
        with repository.streams.open_object(object_id, ContentType.OSTREE_PARTIAL) as reader:
            return CommitStream.read(reader, checksum, ContentType.OSTREE_PARTIAL)
    except (CfsError, OSError):
        return None


def drop_partial(repository: Repository, checksum: Checksum) -> None:
    """Forget what an earlier pull has left; harmless if there is nothing."""
    if repository.streams.links.read_entry(partial_name(checksum)) is not None:
        repository.streams.links.prune([partial_name(checksum)], [])
