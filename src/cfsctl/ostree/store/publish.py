"""The end of a pull: the images are made, everything reaches the disk, and only then it gets its names.

in this process     look at what is new, compress the stream ─────┐
beside it           make the images ──────────────────────────────┴─▶ barrier ─▶ names ─▶ marks
in the kernel       what the workers stored goes to the disk
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.ostree.store.commit_proof import remember_proof
from cfsctl.ostree.store.images import name_commit, store_images
from cfsctl.workers import run_in_fork

if TYPE_CHECKING:
    from collections.abc import Collection

    from cfsctl.digest import ObjectID
    from cfsctl.erofs.format import FormatVersion
    from cfsctl.ostree.store.in_memory import InMemoryCommit
    from cfsctl.ostree.tree.to_tree import XattrNames
    from cfsctl.repository import Repository

_WORTH_A_PROCESS: Final = 4000
"""Objects of a commit from which on a process of its own makes its images; smaller ones are made sooner."""


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

    Returns:
        The IDs of the splitstream object and of the image in the default format.

    Raises:
        FormatError: No image can hold this commit; nothing was named.
        OSError: Something could not be stored.
    """
    new = {found[1] for found in collected.objects.values() if found[1] is not None}
    new.difference_update(verified)
    made: dict[FormatVersion, ObjectID] = {}
    too_young: list[ObjectID] = []

    def make_images() -> dict[FormatVersion, ObjectID]:
        return store_images(repository, collected, xattr_names)

    def take_images() -> dict[FormatVersion, ObjectID]:
        too_young.extend(repository.note(new))  # while they are in the making
        made.update(wait_for_images())
        return made

    def sync() -> None:
        flush.finish()
        repository.sync(too_young)

    forks = may_fork and len(collected.objects) >= _WORTH_A_PROCESS
    with run_in_fork(make_images, forks=forks) as wait_for_images:
        flush = repository.begin_flush()
        try:
            stream_id = name_commit(
                repository,
                collected.checksum,
                collected.objects,
                take_images,
                tag_ref,
                sync,
                detached,
                record,
            )
        finally:
            flush.finish()
    remember_proof(repository, collected.checksum, stream_id)
    repository.save_marks((*made.values(), stream_id))
    return stream_id, made[repository.erofs_versions[0]]
