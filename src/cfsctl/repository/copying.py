"""Copy images and streams to another repository, with everything that they refer to.

If the file system can share blocks between files (Btrfs, XFS), objects are copied as reflinks and take no
space. Every object is digested during the copy, so damaged data never gets into the target. Images and
streams are parsed only from the verified copy.

Of the names in the source, only these are copied: the requested name, IDs of images, and streams whose names
are checksums of their content (`cfsctl.repository.certified`). A name that exists in the target is not given
to another stream, unless the name proves the content.

A repository that uses the other hash has other IDs for the same contents. An image is then rebuilt with the
same tree and format but the new IDs, so it has a new ID itself. Streams can only be copied if the IDs stay
the same.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import qualified
from cfsctl.errors import DigestMismatchError, RefNotFoundError, RepositoryError
from cfsctl.fsverity.merkle import compute_digest, compute_file_digest
from cfsctl.linux.ioctls import try_clone
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.certified import check_certified, check_kind, is_certified
from cfsctl.repository.names.images import map_file
from cfsctl.repository.names.names import check_new_ref
from cfsctl.repository.names.streams import read_object_link
from cfsctl.repository.objects.kinds import ObjectRole, find_role
from cfsctl.repository.objects.space import needing
from cfsctl.repository.publish import NewStream, publish

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects.store import ObjectStore, StoredObject
    from cfsctl.repository.repository import Repository

COPY_ID: Final = "copy"
"""ID of the progress events of copying."""

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

    def as_dict(self) -> dict[str, int]:
        """Return the counts as they are printed in JSON, in the order of their keys."""
        return {
            "copied": self.copied,
            "copied_bytes": self.copied_bytes,
            "shared_bytes": self.shared_bytes,
            "present": self.present,
        }


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
        """Copy one object, unless it is already stored.

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
        """Make the object share its blocks with the source; None if that is not possible."""
        with self._target.begin() as file:
            if not try_clone(file.fd, fd):
                self.may_share = False
                return None
            # The clone is digested, not the source: another process could change the source at any time.
            digest, size = compute_file_digest(file.fd, self._target.algorithm)
            if self._is_alike:
                _check(object_id, digest)
            else:
                _check(object_id, compute_file_digest(file.fd, self._source.algorithm)[0])
            return self._target.publish(file, digest, size)

    def _copy_content(self, fd: int, object_id: ObjectID) -> StoredObject:
        with self._target.create() as writer:
            writer.write_file(fd)
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
        reporter: Told how many objects, and bytes of new ones, have been copied.

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
    with needing(lambda _: _count_bytes(source, target, ordered)):
        for pairs, batch_counts in _run_batches(source, target, batches):
            found.update(pairs)
            counts.add(batch_counts)
            copied_bytes += batch_counts.copied_bytes
            reporter(Advanced(COPY_ID, len(found), len(ordered), copied_bytes))
    reporter(Done(COPY_ID, len(found)))
    return found


def _count_bytes(source: ObjectStore, target: ObjectStore, object_ids: Iterable[ObjectID]) -> int:
    """Return the size of objects that are not in the target; with another algorithm, that of all of them."""
    is_alike = source.algorithm is target.algorithm
    missing = (one for one in object_ids if not (is_alike and target.stat(one)))
    return sum(status.st_size for one in missing if (status := source.stat(one)))


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
    from cfsctl.workers import WorkerPool  # only where there is much to copy

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
        reporter: Told how many objects have been copied.

    Raises:
        InvalidNameError: The ref cannot be one; nothing was stored.
        ErofsError: It is not an image.
        IntegrityError: An object is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    if ref is not None:
        check_new_ref(ref, "image name")
    target.check_writable()
    counts = CopyCounts()
    if source.algorithm is target.algorithm:
        files = fetch_image(source, target, image_id, counts, reporter)
        new_id = image_id
    else:
        new_id, files = _convert_image(source, target, image_id, counts, reporter)
    target.sync(files)
    target.images.link(new_id, ref)
    target.save_marks((new_id,))
    return CopyResult(new_id, counts)


def fetch_image(
    source: Repository,
    target: Repository,
    image_id: ObjectID,
    counts: CopyCounts,
    reporter: Reporter = silent,
) -> set[ObjectID]:
    """Copy an image and its objects, and name nothing; return the IDs of the objects.

    Args:
        source: Where it is.
        target: Where it goes; of the same hash algorithm.
        image_id: The image.
        counts: What was done is added to this.
        reporter: Told how many objects have been copied.

    Raises:
        ErofsError: It is not an image.
        IntegrityError: An object is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    from cfsctl.erofs.read.tree import collect_objects  # see `Images.objects`

    copy_objects(source.objects, target.objects, (image_id,), counts)
    # It says what else is needed, so it is read from the copy: the source may change in the meantime.
    fd = target.objects.open(image_id)
    try:
        with map_file(fd) as data:
            files = collect_objects(data, target.algorithm)
    finally:
        os.close(fd)
    copy_objects(source.objects, target.objects, files, counts, reporter)
    return files


def _convert_image(
    source: Repository, target: Repository, image_id: ObjectID, counts: CopyCounts, reporter: Reporter
) -> tuple[ObjectID, set[ObjectID]]:
    """Store an image of the same tree with IDs of the other hash; return its ID and those of its files."""
    from cfsctl.erofs.read.tree import read_image  # see `Images.objects`
    from cfsctl.erofs.superblock import read_superblock
    from cfsctl.erofs.write.image import build_image
    from cfsctl.tree.model import ExternalFile
    from cfsctl.tree.walk import iter_nodes

    data = _read_verified(source.objects, image_id)
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


def _read_verified(store: ObjectStore, object_id: ObjectID) -> bytes:
    """Return the content of an object, which has the digest that its name says."""
    data = store.read(object_id)
    _check(object_id, compute_digest(data, store.algorithm))
    return data


def copy_stream(
    source: Repository, target: Repository, name: str, ref: str | None = None, reporter: Reporter = silent
) -> CopyResult:
    """Copy a stream with all that it refers to, and name it as in the source.

    Commits are not copied in this way: see `cfsctl.ostree.exchange.copy`.

    Args:
        source: Where it is.
        target: Where it goes; of the same hash algorithm.
        name: The content identifier.
        ref: A ref of the target to move to it, or None.
        reporter: Told how many objects have been copied.

    Raises:
        OtherAlgorithmError: The target has another hash algorithm.
        RefNotFoundError: There is no such stream.
        UncertifiedStreamError: Its name says what its content must be, and that is not proven; or the target
            has another stream of that name. Nothing was named.
        IntegrityError: An object is missing, or its content is not what its name says.
        OSError: Reading or writing failed.
    """
    if ref is not None:
        check_new_ref(ref)
    if source.algorithm is not target.algorithm:
        raise OtherAlgorithmError(
            f"stream {name}: {source.path} has {source.algorithm.hash_name} objects,"
            f" {target.path} has {target.algorithm.hash_name} ones; only images and commits can be converted"
        )
    check_kind(name)
    target.check_writable()
    stream_id = read_object_link(source.streams.links, name, source.algorithm)
    if stream_id is None:
        raise RefNotFoundError(f"stream not found: {name}")
    counts = CopyCounts()
    copied = _StreamCopier(source, target, counts, reporter).copy(stream_id)
    check_certified(target, name, stream_id)
    inner = [NewStream(*found) for found in _find_certified(source, target, copied.streams)]
    streams = [*inner, NewStream(name, stream_id, ref)]
    publish(target, images=copied.images, streams=streams, noting=copied.objects)
    target.save_marks((stream_id,))
    return CopyResult(stream_id, counts)


def _find_certified(
    source: Repository, target: Repository, streams: set[ObjectID]
) -> list[tuple[str, ObjectID]]:
    """Return inner streams with the names that prove their content and that the target does not have."""
    found = []
    for name, object_id in source.streams.list_streams():
        if object_id not in streams or target.streams.links.read_entry(name) is not None:
            continue
        if is_certified(target, name, object_id):
            found.append((name, object_id))
    return found


@dataclass(slots=True)
class _Copied:
    """What was copied for a stream: all objects, and which of them are streams and images."""

    objects: set[ObjectID]
    streams: set[ObjectID]
    images: set[ObjectID]


class _StreamCopier:
    """Copies a stream and all that it leads to; follows what it has copied, not what the source says."""

    def __init__(
        self, source: Repository, target: Repository, counts: CopyCounts, reporter: Reporter
    ) -> None:
        self._source = source
        self._target = target
        self._counts = counts
        self._report = reporter
        self._copied = _Copied(set(), set(), set())

    def copy(self, stream_id: ObjectID) -> _Copied:
        self._fetch({stream_id})
        pending = [stream_id]
        while pending:
            current = pending.pop()
            if current in self._copied.streams:
                continue
            self._copied.streams.add(current)
            with self._target.streams.open_object(current) as stream:
                refs, inner = set(stream.object_refs), set(stream.stream_refs)
            self._fetch(refs | inner)
            pending += [object_id for object_id in sorted(inner) if self._is_stream(object_id)]
        return self._copied

    def _is_stream(self, object_id: ObjectID) -> bool:
        """Return whether something that a stream names is a stream; fetch what it needs if it is an image."""
        role = find_role(self._target.objects, object_id)
        if role is ObjectRole.IMAGE and self._source.images.find(object_id.hex()) is not None:
            files = fetch_image(self._source, self._target, object_id, self._counts, self._report)
            self._copied.objects |= files
            self._copied.images.add(object_id)
        return role is ObjectRole.STREAM

    def _fetch(self, object_ids: set[ObjectID]) -> None:
        wanted = object_ids - self._copied.objects
        if wanted:
            copy_objects(self._source.objects, self._target.objects, wanted, self._counts, self._report)
            self._copied.objects |= wanted
