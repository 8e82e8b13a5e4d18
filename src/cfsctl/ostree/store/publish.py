"""Publish a pulled commit: make the images, sync everything, and only then set the names.

in this process     look at what is new, compress the stream ─────┐
next to it          make the images ──────────────────────────────┴─▶ barrier ─▶ names ─▶ marks
in the kernel       what the workers stored goes to the disk
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.ostree.objects.held_objects import HeldObjects
from cfsctl.ostree.store.commit_proof import remember_proof
from cfsctl.ostree.store.commit_writer import begin_commit_stream, write_commit_stream
from cfsctl.ostree.store.refs import open_commit, stream_name
from cfsctl.ostree.store.stream_refs import DETACHED_REF, IMAGE_REF, RECORD_REF
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.repository.publish import NewStream, make_images, publish
from cfsctl.splitstream.format import FREE_HELD_BYTES
from cfsctl.workers import run_in_fork

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.store.in_memory import InMemoryCommit
    from cfsctl.ostree.tree.leaves import Leaves
    from cfsctl.ostree.tree.to_tree import CommitObjects
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import StoredObject

_WORTH_A_PROCESS: Final = 4000
"""Objects of a commit from which on a process of its own makes its images; smaller ones are made sooner."""


def named_ref_of(version: FormatVersion, default: FormatVersion) -> str:
    """Return the name under which a commit stream keeps its image of a format."""
    return IMAGE_REF if version is default else f"{IMAGE_REF}.v{version.value}"


def store_images(
    repository: Repository,
    commit: CommitObjects,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    leaves: Leaves | None = None,
) -> dict[FormatVersion, ObjectID]:
    """Make and store the commit's image in each format that the repository is set up for.

    Naming them, behind the barrier, is the caller's. See `commit_to_filesystem` for `leaves`.

    Returns:
        ID by format, the default format first.

    Raises:
        FormatError: No image can hold this commit.
    """
    return image_ids(make_images(repository, commit_to_filesystem(commit, xattr_names, leaves=leaves)))


def image_ids(stored: Mapping[FormatVersion, StoredObject]) -> dict[FormatVersion, ObjectID]:
    """Return the IDs of images that were made, in the same order."""
    return {version: image.object_id for version, image in stored.items()}


def publish_commit(
    repository: Repository,
    collected: InMemoryCommit,
    *,
    xattr_names: XattrNames,
    verified: Collection[ObjectID] = (),
    tag_ref: str | None = None,
    detached: ObjectID | None = None,
    record: ObjectID | None = None,
    may_fork: bool = True,
    leaves: Leaves | None = None,
) -> tuple[ObjectID, ObjectID]:
    """Make the images of a whole commit, make everything durable, and name it.

    Args:
        repository: Where; contents that are objects are stored there already.
        collected: The commit.
        xattr_names: How names of extended attributes are in the images.
        verified: Contents that need not be noted as verified, since they are.
        tag_ref: The ref that names the commit, or None.
        detached: The object that is the commit's detached metadata, or None.
        record: The object that says which signatures were found good, or None.
        may_fork: Whether a process of its own may make the images.
        leaves: Nodes of files that were made before, of the same `xattr_names`.

    Returns:
        The IDs of the splitstream object and of the image in the default format.

    Raises:
        FormatError: No image can hold this commit; nothing was named.
        OSError: Something could not be stored.
    """
    size, new = _look_at(collected.objects)
    new.difference_update(verified)

    def make() -> dict[FormatVersion, ObjectID]:
        return store_images(repository, collected, xattr_names, leaves)

    checksum, objects = collected.checksum, collected.objects
    # The stream may be refused then; so it comes first, and memory is not needed for both at the same time.
    forks = may_fork and len(objects) >= _WORTH_A_PROCESS and size <= FREE_HELD_BYTES
    with run_in_fork(make, forks=forks) as wait_for_images:
        with (
            repository.flushing(is_worthwhile=len(objects) >= _WORTH_A_PROCESS),
            begin_commit_stream(repository.objects, repository.algorithm, checksum, objects) as writer,
        ):
            too_young = repository.note(new)  # while the images are under construction
            images = wait_for_images()
            for name, object_id in find_stream_refs(repository, images, detached, record).items():
                writer.add_named_ref(name, object_id)
            stream_id = writer.finish()
        stream = NewStream(stream_name(checksum), stream_id, tag_ref)
        publish(repository, images=images.values(), streams=[stream], noting=too_young)
    remember_proof(repository, collected.checksum, stream_id)
    repository.save_marks((*images.values(), stream_id))
    return stream_id, images[repository.erofs_versions[0]]


def _look_at(objects: Mapping[Checksum, StoredContent]) -> tuple[int, set[ObjectID]]:
    """Return the size of all data, and the contents that are objects and were not lent."""
    if isinstance(objects, HeldObjects):
        lent = sum(lender.data_bytes for lender in objects.count_lent())
        own = list(objects.iter_own())
        size = lent + sum(size for _, size, _ in own)
        return size, {object_id for _, _, object_id in own if object_id is not None}
    new = {object_id for _, object_id in objects.values() if object_id is not None}
    return sum(len(data) for data, _ in objects.values()), new


def name_commit(
    repository: Repository,
    checksum: Checksum,
    objects: Mapping[Checksum, StoredContent],
    images: Mapping[FormatVersion, ObjectID],
    tag: str | None = None,
    detached: ObjectID | None = None,
    record: ObjectID | None = None,
    image_objects: Iterable[ObjectID] = (),
) -> ObjectID:
    """Store a commit's stream, make everything durable, and only then name images, stream and tag.

    Args:
        repository: Where; contents and images are stored there already.
        checksum: The commit.
        objects: All of its objects, as `write_commit_stream` takes them.
        images: Its images by format.
        tag: The stream ref to move to it, or None.
        detached: The object that is its detached metadata, or None.
        record: The object that says which signatures were found good, or None.
        image_objects: As for `write_commit_stream`. Images that are made of the commit need no objects but
            the commit's, and their streams are those of the original byte for byte.

    Returns:
        The ID of the splitstream object.
    """
    refs = find_stream_refs(repository, images, detached, record)
    stream_id = write_commit_stream(
        repository.objects, repository.algorithm, checksum, objects, refs, image_objects=image_objects
    )
    stream = NewStream(stream_name(checksum), stream_id, tag)
    publish(repository, images=images.values(), streams=[stream])
    return stream_id


def find_stream_refs(
    repository: Repository,
    images: Mapping[FormatVersion, ObjectID],
    detached: ObjectID | None,
    record: ObjectID | None,
) -> dict[str, ObjectID]:
    """Return what a commit's stream names.

    Args:
        repository: Where the stream goes.
        images: The commit's images by format.
        detached: The object that is its detached metadata, or None.
        record: The object that says which signatures were found good, or None.
    """
    default = repository.erofs_versions[0]
    # The order of the original, which is that of the references in the stream.
    refs = {
        named_ref_of(version, default): image for version, image in images.items() if version is not default
    }
    if detached is not None:
        refs[DETACHED_REF] = detached
    if record is not None:
        refs[RECORD_REF] = record
    return {**refs, IMAGE_REF: images[default]}


def restate_commit(
    repository: Repository, checksum: Checksum, detached: ObjectID | None, record: ObjectID | None
) -> ObjectID:
    """Store a whole commit's stream with other things next to it; its images, and all else, stay as they are.

    Args:
        repository: Where the commit is.
        checksum: The commit.
        detached: The object that is its detached metadata now, or None.
        record: The object that says which signatures were found good, or None.

    Returns:
        The ID of the splitstream object.
    """
    stream = open_commit(repository, checksum)
    refs = {name: ref for name, ref in stream.named_refs.items() if name != IMAGE_REF}
    for name, object_id in ((DETACHED_REF, detached), (RECORD_REF, record)):
        refs.pop(name, None)
        if object_id is not None:
            refs[name] = object_id
    if stream.image is not None:
        refs[IMAGE_REF] = stream.image
    stream_id = write_commit_stream(
        repository.objects,
        repository.algorithm,
        checksum,
        stream.as_dict(),
        refs,
        image_objects=stream.object_refs,
    )
    publish(repository, streams=[NewStream(stream_name(checksum), stream_id)])
    return stream_id
