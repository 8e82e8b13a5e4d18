"""Partial commits: from a failed pull, or from a pull of some subpaths.

    streams/ostree-partial-<commit>          the stored part, in the form of a commit
    streams/refs/ostree-partial/<escaped>    a tag, for a part that was requested; or the commit's ID

The splitstream has a separate content type, so that it is never mistaken for a complete commit. After a
failed pull it has
no ref: the next pull of the commit reuses its objects, and a collection removes it. A pull of subpaths gives
it a ref, and an image of the stored files. A complete pull replaces both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import parse_checksum
from cfsctl.errors import CfsError
from cfsctl.ostree.store.commit_proof import remember_proof
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.partial_tags import PARTS, list_part_tags, list_parts, partial_name
from cfsctl.ostree.store.publish import find_stream_refs
from cfsctl.ostree.store.refs import CommitNotFoundError, open_commit, resolve_source, tag_ref
from cfsctl.ostree.store.stream_refs import IMAGE_REF
from cfsctl.repository.names.short_ids import choose_id, parse_short_id
from cfsctl.repository.names.streams import read_ref_entry
from cfsctl.repository.publish import NewStream, publish
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.repository import Repository


class PartialCommitError(CfsError):
    """A partial commit where a complete one is needed."""


def save_partial(
    repository: Repository,
    checksum: Checksum,
    objects: Mapping[Checksum, StoredContent],
    image: ObjectID | None = None,
) -> None:
    """Keep the objects that were fetched, in place of what was kept before.

    Args:
        repository: Where; contents are stored there already.
        checksum: The commit, which is one of the objects.
        objects: As `write_commit_stream` takes them, but not all of the commit's.
        image: An image of an earlier part of the commit, to be kept.

    Raises:
        OSError: It could not be stored; nothing has changed then.
    """
    stream_id = write_commit_stream(
        repository.objects,
        repository.algorithm,
        checksum,
        objects,
        {} if image is None else {IMAGE_REF: image},
        ContentType.OSTREE_PARTIAL,
    )
    publish(repository, streams=[NewStream(partial_name(checksum), stream_id)])
    remember_proof(repository, checksum, stream_id)
    repository.save_marks(())


def store_part(
    repository: Repository,
    checksum: Checksum,
    objects: Mapping[Checksum, StoredContent],
    images: Mapping[FormatVersion, ObjectID],
    tag: str | None,
    detached: ObjectID | None,
    record: ObjectID | None = None,
) -> ObjectID:
    """Store a part of a commit, make everything durable, and only then name it.

    Args:
        repository: Where; contents and images are stored there already.
        checksum: The commit.
        objects: Its stored objects, including the commit.
        images: Images of that by format.
        tag: The tag that names the part now, and no other commit; None names it by the commit's ID.
        detached: The object that is the commit's detached metadata, or None.
        record: The object that says which signatures were found good, or None.

    Returns:
        The ID of the splitstream object.
    """
    refs = find_stream_refs(repository, images, detached, record)
    stream_id = write_commit_stream(
        repository.objects, repository.algorithm, checksum, objects, refs, ContentType.OSTREE_PARTIAL
    )
    ref = PARTS.ref(checksum.hex() if tag is None else tag)
    stream = NewStream(partial_name(checksum), stream_id, ref)
    publish(repository, images=images.values(), streams=[stream])
    if tag is not None:
        _remove_ref(repository, tag_ref(tag))
    remember_proof(repository, checksum, stream_id)
    repository.save_marks(())
    return stream_id


def find_partial(repository: Repository, checksum: Checksum) -> CommitStream | None:
    """Return what an earlier pull of a commit has left, or None; what is damaged counts as absent."""
    try:
        object_id = repository.streams.find(partial_name(checksum))
        if object_id is None:
            return None
        with repository.streams.open_object(object_id, ContentType.OSTREE_PARTIAL) as reader:
            stream = CommitStream.read(reader, checksum, ContentType.OSTREE_PARTIAL)
    except (CfsError, OSError):
        return None
    stream.object_id = object_id
    return stream


def drop_partial(repository: Repository, checksum: Checksum, tag: str | None = None) -> None:
    """Forget what earlier pulls have left of a commit that is whole now; harmless if there is nothing.

    Args:
        repository: Where.
        checksum: The commit.
        tag: A tag that names a whole commit now, so no part of any other one.
    """
    for part in list_part_tags(repository):
        if part.commit == checksum or part.name == tag:
            _remove_ref(repository, PARTS.ref(part.name))
    if repository.streams.links.read_entry(partial_name(checksum)) is not None:
        repository.streams.links.prune([partial_name(checksum)], [])


def _remove_ref(repository: Repository, ref: str) -> None:
    if read_ref_entry(repository.streams.links, ref) is not None:
        repository.streams.remove_ref(ref)


def open_source(repository: Repository, source: str) -> CommitStream:
    """Return the commit that a user names, or the stored part of it.

    Args:
        repository: Where to look.
        source: As `refs.resolve_source` takes it; whole commits come first.

    Returns:
        The commit; its `is_partial` tells a part from a whole.

    Raises:
        CommitNotFoundError, AmbiguousIdError: The source names none, or more than one.
        FormatError, IntegrityError: What is stored is damaged.
    """
    try:
        return open_commit(repository, resolve_source(repository, source))
    except CommitNotFoundError:
        part = find_part(repository, source)
        if part is None:
            raise
        return part


def find_part(repository: Repository, source: str) -> CommitStream | None:
    """Return the part of a commit that a tag, an ID or a unique prefix of one stands for, or None."""
    parts = list_parts(repository)
    commits = {part.commit for part in parts if part.name == source}
    short = parse_short_id(source)
    if not commits and short is not None:
        ids = (part.commit.hex() for part in parts)
        found = choose_id(short.digits, ids, "partial commit ID")
        commits = set() if found is None else {parse_checksum(found)}
    return find_partial(repository, commits.pop()) if len(commits) == 1 else None


def check_whole(repository: Repository, source: str) -> None:
    """Raise an error if a source is a partial commit.

    Raises:
        PartialCommitError: The commit is partial.
    """
    try:
        resolve_source(repository, source)
    except CommitNotFoundError:
        part = find_part(repository, source)
        if part is not None:
            raise PartialCommitError(
                f"commit {part.checksum.hex()} is partial: only some of its paths were pulled",
                hint="pull it again without --subpath",
            ) from None


def describe_partial(stream: CommitStream) -> str:
    """Return what is to be said where a part of a commit is used."""
    return f"commit {stream.checksum.hex()} is partial: only some of its paths were pulled"
