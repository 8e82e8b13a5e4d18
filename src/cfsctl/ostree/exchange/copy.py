"""Copy a stored commit, or a part of one, to another composefs repository.

The source is not trusted. Objects are verified by their names, but the table in a commit's stream can assign
any content to any file, and the stream refers to an image, detached metadata and a record of signatures. So
each file is hashed again in the target, the image is compared with the commit, the stream is written again,
and signatures do not count until they are verified here (`cfsctl.ostree.store.commit_proof`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import CfsError
from cfsctl.ostree.pull.bases import BaseCommits
from cfsctl.ostree.pull.pull import pull
from cfsctl.ostree.sources.stored_commit import StoredCommitSource
from cfsctl.ostree.store.commit_proof import is_proven, iter_false_contents, remember_proof, untrue
from cfsctl.ostree.store.commitmeta import read_detached, store_detached
from cfsctl.ostree.store.images import find_image
from cfsctl.ostree.store.in_memory import InMemoryCommit
from cfsctl.ostree.store.partial_commits import PartialCommitError, drop_partial, find_partial, store_part
from cfsctl.ostree.store.partial_tags import drop_lost_demand
from cfsctl.ostree.store.publish import name_commit, store_images
from cfsctl.ostree.store.refs import (
    CommitNotFoundError,
    find_tag,
    new_tag_ref,
    open_commit,
    set_tag,
    stream_name,
)
from cfsctl.ostree.store.tag_demands import drop_demand
from cfsctl.ostree.store.upstream_made import require_ostree_form
from cfsctl.ostree.tree.image_proof import is_image_of
from cfsctl.ostree.trust.tags import find_unmet
from cfsctl.progress import Message, silent
from cfsctl.repository.copying import (
    CopyCounts,
    ObjectCopier,
    OtherAlgorithmError,
    copy_objects,
    fetch_image,
)

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

    Objects = dict[Checksum, StoredContent]


class CommitCopy(NamedTuple):
    """What a copy did.

    Attributes:
        stream_id: The commit's splitstream object in the target.
        image_id: Its image there, or None if none exists.
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
    *,
    from_scratch: bool = False,
    allow_unverified: bool = False,
) -> CommitCopy:
    """Copy a commit with its contents and its image, and tag it.

    To a repository of the other hash algorithm it goes as if it was pulled.

    Args:
        source: Where it is.
        target: Where it goes.
        checksum: The commit.
        tag: A tag of the target to move to it, or None.
        reporter: Told about progress.
        from_scratch: Replace the stream that the target has of it, even if that looks right.
        allow_unverified: Move the tag regardless of its requirements.

    Raises:
        SignatureError, BindingError: The tag was set under a demand that the commit does not meet; nothing
            was stored.
        CommitNotFoundError: It does not exist.
        InvalidNameError: The tag cannot be one; nothing was stored.
        FormatError, IntegrityError: Something of it is damaged, missing, or not what its checksum says.
        OSError: Reading or writing failed.
    """
    if tag is not None:
        new_tag_ref(tag)
    stream = open_commit(source, checksum)
    target.check_writable()
    if tag is not None:
        _check_tag(target, tag, stream, allow_unverified=allow_unverified)
    if source.algorithm is target.algorithm:
        counts = _copy_alike(source, target, stream, tag, reporter, from_scratch=from_scratch)
    else:
        counts = _pull(source, target, stream, reporter)
    if tag is not None:
        drop_lost_demand(target, tag)
        set_tag(target, checksum.hex(), tag)
        if allow_unverified:
            drop_demand(target, tag)
    drop_partial(target, checksum, tag)
    copied = open_commit(target, checksum)
    assert copied.object_id is not None
    found = find_image(target, copied)
    return CommitCopy(copied.object_id, None if found is None else found[0], counts)


def _check_tag(target: Repository, tag: str, stream: CommitStream, *, allow_unverified: bool) -> None:
    """Check that a commit meets the demand that a tag of the target was set under.

    Signatures that were verified in the source count for nothing, those that were verified in the target do.
    """
    if not allow_unverified and (unmet := find_unmet(target, tag, stream.checksum, stream.commit)):
        raise unmet


def _pull(source: Repository, target: Repository, stream: CommitStream, reporter: Reporter) -> CopyCounts:
    require_ostree_form(stream)
    counts = CopyCounts()
    _share_contents(source, target, stream, counts, reporter)
    origin = StoredCommitSource(source.path, stream, source.objects)
    result = pull(target, origin, stream.checksum.hex(), reporter=reporter)
    counts.copied += result.stored_objects
    counts.copied_bytes += result.stored_bytes
    return counts


def _share_contents(
    source: Repository, target: Repository, stream: CommitStream, counts: CopyCounts, reporter: Reporter
) -> None:
    """Copy large contents beforehand where that takes no space; the pull then finds them in place."""
    if not stream.object_refs:
        return
    probe = ObjectCopier(source.objects, target.objects)
    probe.copy(max(stream.object_refs, key=lambda object_id: _size_of(source, object_id)))
    counts.add(probe.counts)
    if probe.may_share:
        copy_objects(source.objects, target.objects, set(stream.object_refs), counts, reporter)


def _size_of(repository: Repository, object_id: ObjectID) -> int:
    status = repository.objects.stat(object_id)
    return 0 if status is None else status.st_size


def _copy_alike(
    source: Repository,
    target: Repository,
    stream: CommitStream,
    tag: str | None,
    reporter: Reporter,
    *,
    from_scratch: bool,
) -> CopyCounts:
    """Copy a commit to a repository of the same hash, unless it is complete; the caller sets the tag."""
    stored = BaseCommits(target, reporter)
    here = None if from_scratch else stored.open(stream.checksum)
    objects = stream.as_dict()
    contents = {object_id for _, object_id in objects.values() if object_id is not None}
    counts = CopyCounts()
    if here is not None and stored.is_whole(here):
        stored.restore_lost()
        counts.present = len(contents)
        return counts
    copy_objects(source.objects, target.objects, contents, counts, reporter)
    previous = None if tag is None else find_tag(target, tag)
    known = None if previous is None else stored.open(previous)
    _prove(target, stream, known, reporter)
    image, files = _fetch_image(source, target, stream, counts, reporter)
    detached = read_detached(source, stream)
    images = store_images(target, stream) if image is None else {target.erofs_versions[0]: image}
    stream_id = name_commit(
        target,
        stream.checksum,
        objects,
        images,
        detached=None if detached is None else store_detached(target, detached),
        image_objects=sorted(files - contents),
    )
    remember_proof(target, stream.checksum, stream_id)
    target.save_marks((*contents, *images.values(), stream_id))
    return counts


def _prove(target: Repository, stream: CommitStream, known: CommitStream | None, reporter: Reporter) -> None:
    """Prove the table of a stream from outside, whose contents have been copied.

    Raises:
        UntrueCommitError: A file is not what its checksum says.
    """
    trusted = known if known is not None and is_proven(target, known) else None
    for problem in iter_false_contents(target.objects, stream, reporter, known=trusted):
        raise untrue(stream, problem)


def _fetch_image(
    source: Repository, target: Repository, stream: CommitStream, counts: CopyCounts, reporter: Reporter
) -> tuple[ObjectID | None, set[ObjectID]]:
    """Copy the image that a commit has in the source, if it is one of it, with its objects."""
    if stream.image is None or source.images.find(stream.image.hex()) is None:
        return None, set()
    try:
        files = fetch_image(source, target, stream.image, counts)
        if is_image_of(target.objects, stream, stream.image):
            return stream.image, files
        reporter(
            Message(f"image {stream.image.hex()} of the source does not match the commit; it was rebuilt")
        )
    except CfsError as error:
        reporter(Message(f"image {stream.image.hex()} of the source is rebuilt: {error}"))
    return None, set()


def copy_part(
    source: Repository,
    target: Repository,
    checksum: Checksum,
    tag: str | None = None,
    reporter: Reporter = silent,
    *,
    allow_unverified: bool = False,
) -> CommitCopy:
    """Copy the stored part of a partial commit.

    Args:
        source: Where it is.
        target: Where it goes; of the same hash algorithm.
        checksum: The commit.
        tag: The tag that names the part in the target, or None for the commit's ID.
        reporter: Told about progress.
        allow_unverified: As for `copy_commit`.

    Raises:
        CommitNotFoundError: It does not exist.
        SignatureError, BindingError: As for `copy_commit`.
        PartialCommitError: All of it is in the target.
        OtherAlgorithmError: The target has another hash algorithm.
        FormatError, IntegrityError: Something of it is damaged, missing, or not what its checksum says.
        OSError: Reading or writing failed.
    """
    if tag is not None:
        new_tag_ref(tag)
    stream = find_partial(source, checksum)
    if stream is None:
        raise CommitNotFoundError(f"no readable part of commit {checksum.hex()} in {source.path}")
    if source.algorithm is not target.algorithm:
        raise OtherAlgorithmError(
            f"commit {checksum.hex()} is partial: {source.path} has {source.algorithm.hash_name} objects,"
            f" {target.path} has {target.algorithm.hash_name} ones"
        )
    target.check_writable()
    if target.streams.find(stream_name(checksum)) is not None:
        raise PartialCommitError(f"commit {checksum.hex()} is complete in {target.path}", hint="tag it there")
    if tag is not None:
        _check_tag(target, tag, stream, allow_unverified=allow_unverified)
    objects = stream.as_dict()
    counts = CopyCounts()
    contents = {object_id for _, object_id in objects.values() if object_id is not None}
    copy_objects(source.objects, target.objects, contents, counts, reporter)
    _prove(target, stream, None, reporter)
    if (known := BaseCommits(target, reporter).open_partial(checksum)) is not None:
        objects = known.as_dict() | objects
    images = store_images(target, InMemoryCommit(checksum, stream.commit, objects, is_partial=True))
    found = read_detached(source, stream)
    detached = None if found is None else store_detached(target, found)
    if tag is not None:
        drop_lost_demand(target, tag)
    stream_id = store_part(target, checksum, objects, images, tag, detached)
    if tag is not None and allow_unverified:
        drop_demand(target, tag)
    return CommitCopy(stream_id, images[target.erofs_versions[0]], counts)
