"""Copy images and streams to another repository, with all that they need.

Where the file system can share blocks between files (Btrfs, XFS), objects are reflinks of one another and
take no space. Whatever the way, an object is digested on it: what is damaged in one repository does not get
into another.

A repository of the other hash has other IDs for the same contents. An image is then made anew: the same
tree, of the same format, with the new IDs; so it has a new ID itself. A stream of any kind can only be
copied where IDs stay the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import qualified
from cfsctl.errors import DigestMismatchError, RepositoryError
from cfsctl.fsverity.merkle import compute_file_digest
from cfsctl.linux.ioctls import try_clone
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.mark import Marker
from cfsctl.repository.names import check_ref

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects import ObjectStore, StoredObject
    from cfsctl.repository.repository import Repository

COPY_ID: Final = "copy"
"""What progress of copying objects goes by."""

_COPY_BYTES: Final = 1 << 20
_WORTH_WORKERS: Final = 500
"""Objects from which on it pays to start processes."""

_BATCH: Final = 64
"""Objects that a worker copies at a time."""


class OtherAlgorithmError(RepositoryError):
    """Something that can only be copied to a repository of the same hash algorithm."""


@dataclass(slots=True)
class CopyCounts:
    """What became of the objects that were to be copied.

    Attributes:
        copied: Objects that are new in the target.
        copied_bytes: Their sizes.
        shared_bytes: How much of that shares its blocks with the source.
        present: Objects that were there already.
    """

    copied: int = 0
    copied_bytes: int = 0
    shared_bytes: int = 0
    present: int = 0

    def add(self, other: CopyCounts) -> None:
        """Add other counts to these."""
        self.copied += other.copied
        self.copied_bytes += other.copied_bytes
        self.shared_bytes += other.shared_bytes
        self.present += other.present


class CopyResult(NamedTuple):
    """What a copy did.

    Attributes:
        object_id: The image or stream in the target.
        counts: What became of its objects.
    """

    object_id: ObjectID
    counts: CopyCounts


class ObjectCopier:
    """Copies objects from one store to another, which may be of another hash algorithm.

    Attributes:
        counts: What was done so far.
        may_share: Whether the file systems are not known to be unable to share blocks.
    """

    def __init__(self, source: ObjectStore, target: ObjectStore) -> None:
        """Copy nothing yet; both stores are borrowed."""
        self.counts = CopyCounts()
        self.may_share = True
        self._source = source
        self._target = target
        self._is_alike = source.algorithm is target.algorithm

    def copy(self, object_id: ObjectID) -> ObjectID:
        """Copy one object, unless it is there.

        Returns:
            Its ID in the target.

        Raises:
            IntegrityError: It is missing, or its content is not what its name says.
            OSError: Reading or writing failed.
        """
        if self._is_alike and self._target.is_sound(object_id):
            self.counts.present += 1
            return object_id
        fd = self._source.open(object_id)
        try:
            stored = self._share(fd, object_id) if self.may_share else None
            is_shared = stored is not None
            if stored is None:
                stored = self._copy_content(fd, object_id)
        finally:
            os.close(fd)
        self._count(stored, is_shared=is_shared)
        return stored.object_id

    def _count(self, stored: StoredObject, *, is_shared: bool) -> None:
        if not stored.is_new:
            self.counts.present += 1
            return
        self.counts.copied += 1
        self.counts.copied_bytes += stored.size
        if is_shared:
            self.counts.shared_bytes += stored.size

    def _share(self, fd: int, object_id: ObjectID) -> StoredObject | None:
        """Make the object share its blocks with the source; None where that is not possible."""
        with self._target.begin() as file:
            if not try_clone(file.fd, fd):
                self.may_share = False
                return None
            # Of the clone: the source may be changed by whoever writes to it in spite of all.
            digest, size = compute_file_digest(file.fd, self._target.algorithm)
            if self._is_alike:
                _check(object_id, digest)
            else:
                _check(object_id, compute_file_digest(file.fd, self._source.algorithm)[0])
            return self._target.publish(file, digest, size)

    def _copy_content(self, fd: int, object_id: ObjectID) -> StoredObject:
        with self._target.create() as writer:
            position = 0
            while chunk := os.pread(fd, _COPY_BYTES, position):
                writer.write(chunk)
                position += len(chunk)
            if self._is_alike:
                return _commit(writer.commit, object_id)
            _check(object_id, compute_file_digest(writer.fd, self._source.algorithm)[0])
            return writer.commit()


def _commit(commit: Callable[[ObjectID], StoredObject], object_id: ObjectID) -> StoredObject:
    try:
        return commit(object_id)
    except DigestMismatchError as error:
        what = f"object {qualified(object_id)} of the source"
        raise DigestMismatchError(what, expected=error.expected, actual=error.actual, hint=_HINT) from error


_HINT: Final = "see what `cfsctl fsck` says of the source, and repair it first"


def _check(object_id: ObjectID, digest: ObjectID) -> None:
    if digest != object_id:
        raise DigestMismatchError(
            f"object {qualified(object_id)} of the source",
            expected=object_id.hex(),
            actual=digest.hex(),
            hint=_HINT,
        )


def copy_objects(
    source: ObjectStore,
    target: ObjectStore,
    object_ids: Collection[ObjectID],
    counts: CopyCounts,
    reporter: Reporter = silent,
) -> dict[ObjectID, ObjectID]:
    """Copy many objects, in several processes where that pays.

    Args:
        source: Where they are.
        target: Where they go.
        object_ids: Their IDs in the source.
        counts: What was done is added to this.
        reporter: Hears how many objects, and bytes of new ones, have been copied.

    Returns:
        The ID in the target, by the ID in the source.

    Raises:
        IntegrityError: One is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    ordered = sorted(object_ids)
    batches = [ordered[place : place + _BATCH] for place in range(0, len(ordered), _BATCH)]
    found: dict[ObjectID, ObjectID] = {}
    reporter(Started(COPY_ID, len(ordered), Unit.ITEMS))
    copied_bytes = 0
    for pairs, batch_counts in _run_batches(source, target, batches):
        found.update(pairs)
        counts.add(batch_counts)
        copied_bytes += batch_counts.copied_bytes
        reporter(Advanced(COPY_ID, len(found), len(ordered), copied_bytes))
    reporter(Done(COPY_ID, len(found)))
    return found


_Pairs = list[tuple["ObjectID", "ObjectID"]]


def _run_batches(
    source: ObjectStore, target: ObjectStore, batches: list[list[ObjectID]]
) -> Iterable[tuple[_Pairs, CopyCounts]]:
    def make_handler() -> Callable[[list[ObjectID]], tuple[_Pairs, CopyCounts]]:
        copier = ObjectCopier(source, target)

        def copy_batch(batch: list[ObjectID]) -> tuple[_Pairs, CopyCounts]:
            copier.counts = CopyCounts()
            return [(object_id, copier.copy(object_id)) for object_id in batch], copier.counts

        return copy_batch

    if len(batches) * _BATCH < _WORTH_WORKERS:
        yield from map(make_handler(), batches)
        return
    from cfsctl.workers import WorkerPool  # noqa: PLC0415 - only where there is much to copy

    with WorkerPool(make_handler) as pool:
        yield from pool.map_unordered(batches)


def copy_image(
    source: Repository,
    target: Repository,
    image_id: ObjectID,
    ref: str | None = None,
    reporter: Reporter = silent,
) -> CopyResult:
    """Copy an image with its objects, and name it.

    Args:
        source: Where it is.
        target: Where it goes; may be of the other hash algorithm.
        image_id: The image.
        ref: A ref of the target to move to it, or None.
        reporter: Hears how many objects have been copied.

    Raises:
        InvalidNameError: The ref cannot be one; nothing was stored.
        ErofsError: It is no image.
        IntegrityError: An object is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    if ref is not None:
        check_ref(ref, "image name")
    target.check_writable()
    counts = CopyCounts()
    # Before anything in it is believed: it says what else is needed.
    _check(image_id, _compute_digest(source.objects, image_id))
    if source.algorithm is target.algorithm:
        files = set(source.images.objects(image_id.hex()))
        copy_objects(source.objects, target.objects, files | {image_id}, counts, reporter)
        new_id = image_id
    else:
        new_id, files = _convert_image(source, target, image_id, counts, reporter)
    target.sync(files)
    target.images.link(new_id, ref)
    target.remember((new_id,))
    return CopyResult(new_id, counts)


def _compute_digest(store: ObjectStore, object_id: ObjectID) -> ObjectID:
    """Return the digest that an object really has."""
    fd = store.open(object_id)
    try:
        return compute_file_digest(fd, store.algorithm)[0]
    finally:
        os.close(fd)


def _convert_image(
    source: Repository, target: Repository, image_id: ObjectID, counts: CopyCounts, reporter: Reporter
) -> tuple[ObjectID, set[ObjectID]]:
    """Store an image of the same tree with IDs of the other hash; return its ID and those of its files."""
    from cfsctl.erofs.reader import read_image  # noqa: PLC0415 - see `Images.objects`
    from cfsctl.erofs.superblock import read_superblock  # noqa: PLC0415 - the same
    from cfsctl.erofs.writer import build_image  # noqa: PLC0415 - the same
    from cfsctl.tree.model import ExternalFile  # noqa: PLC0415 - the same
    from cfsctl.tree.walk import iter_nodes  # noqa: PLC0415 - the same

    with source.images.map(image_id.hex()) as data:
        version = read_superblock(data).version
        filesystem = read_image(data, source.algorithm)
    files = [node for node in iter_nodes(filesystem) if isinstance(node, ExternalFile)]
    wanted = {file.object_id for file in files}
    found = copy_objects(source.objects, target.objects, wanted, counts, reporter)
    for file in files:
        file.object_id = found[file.object_id]
    stored = target.objects.ensure_bytes(build_image(filesystem, version))
    counts.add(CopyCounts(1, stored.size) if stored.is_new else CopyCounts(present=1))
    return stored.object_id, set(found.values())


def copy_stream(
    source: Repository, target: Repository, name: str, ref: str | None = None, reporter: Reporter = silent
) -> CopyResult:
    """Copy a stream with all that it refers to, and name it as in the source.

    Images and streams among that which have a name in the source get it in the target as well.

    Args:
        source: Where it is.
        target: Where it goes; of the same hash algorithm.
        name: The content identifier.
        ref: A ref of the target to move to it, or None.
        reporter: Hears how many objects have been copied.

    Raises:
        OtherAlgorithmError: The target has another hash algorithm.
        RefNotFoundError: There is no such stream.
        IntegrityError: An object is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    if ref is not None:
        check_ref(ref)
    if source.algorithm is not target.algorithm:
        raise OtherAlgorithmError(
            f"stream {name}: {source.path} has {source.algorithm.hash_name} objects,"
            f" {target.path} has {target.algorithm.hash_name} ones; only images and commits can be converted"
        )
    target.check_writable()
    with source.streams.open(name):
        pass  # raises if there is none, or it cannot be read
    marker = Marker(source)
    needed = marker.reach(marker.streams, name)
    images = [object_id for object_id in marker.images.entries.values() if object_id in needed]
    for image_id in images:
        needed.update(source.images.objects(image_id.hex()))
    counts = CopyCounts()
    copy_objects(source.objects, target.objects, needed, counts, reporter)
    target.sync(needed)
    for image_id in images:
        target.images.link(image_id)
    for entry, object_id in marker.streams.entries.items():
        if object_id in needed and entry != name:
            target.streams.link(entry, object_id)
    stream_id = marker.streams.entries[name]
    target.streams.link(name, stream_id, ref)
    target.remember((stream_id,))
    return CopyResult(stream_id, counts)
