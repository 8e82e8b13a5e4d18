"""Commits that are stored, as a pull looks at them: read, found whole or not, and offered as bases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import FormatError, IntegrityError
from cfsctl.ostree.images import find_image
from cfsctl.ostree.refs import (
    open_commit_object,
    stream_name,
)
from cfsctl.progress import Message
from cfsctl.repository.objects import ObjectDamagedError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.commit_stream import CommitStream
    from cfsctl.ostree.plan import Base
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects import ObjectStore


class StoredBase:
    """What is stored as a base: content that is not in the repository any more is as good as absent."""

    def __init__(self, stream: Base, objects: ObjectStore, object_ids: Iterable[ObjectID] = ()) -> None:
        """Offer the objects of a stream, or of a journal.

        Args:
            stream: What is stored.
            objects: Where the contents are.
            object_ids: Contents that are looked at all together when the first is asked for.
        """
        self._stream = stream
        self._objects = objects
        self._object_ids = object_ids
        self._verified: dict[ObjectID, int] | None = None

    def find(self, checksum: Checksum) -> tuple[bytes, ObjectID | None] | None:
        """Return the object's data and the ID of content that is an object; see `plan.Base`."""
        found = self._stream.find(checksum)
        if found is None or found[1] is None:
            return found
        size_bytes = int.from_bytes(found[0][8:16], "big")  # As the header says, which is checked later.
        if self._verified is None:
            self._verified = self._look_at_all()
        if self._verified.get(found[1]) == size_bytes:
            return found
        return found if self._objects.is_sound(found[1], size_bytes) else None

    def _look_at_all(self) -> dict[ObjectID, int]:
        """Return the sizes of the contents that need no closer look."""
        ids = sorted(self._object_ids)
        return dict(zip(ids, self._objects.find_verified_sizes(ids), strict=True))


class StoredCommits:
    """The stored commits of a repository; what is damaged about them is reported, and not used."""

    def __init__(self, repository: Repository, reporter: Reporter) -> None:
        """Read nothing yet."""
        self._repository = repository
        self._report = reporter

    def as_base(self, stream: CommitStream) -> StoredBase:
        """Return a stored commit as a base of a pull."""
        return StoredBase(stream, self._repository.objects, stream.object_refs)

    def open(self, checksum: Checksum) -> CommitStream | None:
        """Return a stored commit; one that cannot be read counts as absent, and that is reported."""
        try:
            object_id = self._repository.streams.find(stream_name(checksum))
            if object_id is None:
                return None
            if damage := self._repository.objects.find_damage(object_id):
                raise ObjectDamagedError(f"its stream: {damage}")
            stream = open_commit_object(self._repository, object_id, checksum)
            _ = stream.commit
        except (FormatError, IntegrityError) as error:
            self._report(Message(f"stored commit {checksum.hex()} is damaged and not used: {error}"))
            return None
        return stream

    def is_whole(self, stored: CommitStream) -> bool:
        """Return whether all that a stored commit needs is here and is sound.

        An image is only ever made of a whole commit, so a stream with an image lacks no entry.
        """
        image = find_image(self._repository, stored)
        find_damage = self._repository.objects.find_damage
        if image is None or find_damage(image[0]) != "":
            return False
        beside = [object_id for object_id in (stored.detached, stored.record) if object_id is not None]
        found = list(self._repository.objects.find_all_damage((*stored.object_refs, *beside)).values())
        if found:
            what = f"{len(found)} of its objects are" if len(found) > 1 else "one of its objects is"
            how = "missing or damaged" if any(found) else "missing"
            self._report(Message(f"stored commit {stored.checksum.hex()}: {what} {how}; fetched again"))
        return not found

    def open_whole(self, checksum: Checksum) -> CommitStream | None:
        """Return a stored commit of which everything is here, or None."""
        stream = self.open(checksum)
        if stream is None or self._repository.objects.find_missing(stream.object_refs):
            return None
        return stream
