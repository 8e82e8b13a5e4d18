"""Copy a stored commit to another composefs repository."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.ostree.images import find_image
from cfsctl.ostree.pull import pull
from cfsctl.ostree.refs import open_commit, set_tag, stream_name, tag_ref
from cfsctl.ostree.stored_source import StoredCommitSource
from cfsctl.ostree.upstream_made import require_ostree_form
from cfsctl.progress import silent
from cfsctl.repository.copying import CopyCounts, ObjectCopier, copy_objects, copy_stream

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class CommitCopy(NamedTuple):
    """What a copy did.

    Attributes:
        stream_id: The commit's splitstream object in the target.
        image_id: Its image there, or None where the source had none.
        counts: What became of its objects.
    """

    stream_id: ObjectID
    image_id: ObjectID | None
    counts: CopyCounts


def copy_commit(
    source: Repository,
    target: Repository,
    checksum: Checksum,
    tag: str | None = None,
    reporter: Reporter = silent,
) -> CommitCopy:
    """Copy a commit with its contents and its image, and tag it.

    To a repository of the same hash algorithm everything goes as it is. In one of the other the commit's
    stream and its image are made anew.

    Args:
        source: Where it is.
        target: Where it goes.
        checksum: The commit.
        tag: A tag of the target to move to it, or None.
        reporter: Told about progress.

    Raises:
        CommitNotFoundError: It is not there.
        InvalidNameError: The tag cannot be one; nothing was stored.
        FormatError, IntegrityError: Something of it is damaged or missing.
        OSError: Reading or writing failed.
    """
    ref = None if tag is None else tag_ref(tag)
    stream = open_commit(source, checksum)
    if source.algorithm is target.algorithm:
        stream_id, counts = copy_stream(source, target, stream_name(checksum), ref, reporter)
        found = find_image(target, stream)
        return CommitCopy(stream_id, None if found is None else found[0], counts)
    require_ostree_form(stream)
    counts = CopyCounts()
    _share_contents(source, target, stream, counts, reporter)
    origin = StoredCommitSource(source.path, stream, source.objects)
    result = pull(target, origin, checksum.hex(), reporter=reporter)
    if tag is not None:
        set_tag(target, checksum.hex(), tag)
    counts.copied += result.stored_objects
    counts.copied_bytes += result.stored_bytes
    return CommitCopy(result.stream_id, result.image_id, counts)


def _share_contents(
    source: Repository, target: Repository, stream: CommitStream, counts: CopyCounts, reporter: Reporter
) -> None:
    """Copy large contents beforehand where that takes no space; the pull then finds them in place."""
    if not stream.object_refs:
        return
    target.check_writable()
    probe = ObjectCopier(source.objects, target.objects)
    probe.copy(max(stream.object_refs, key=lambda object_id: _size_of(source, object_id)))
    counts.add(probe.counts)
    if probe.may_share:
        copy_objects(source.objects, target.objects, set(stream.object_refs), counts, reporter)


def _size_of(repository: Repository, object_id: ObjectID) -> int:
    status = repository.objects.stat(object_id)
    return 0 if status is None else status.st_size
