"""Pulling a commit: from a source into the repository, with its image and its names.

    source ─▶ resolve the ref                                       parent
           ─▶ metadata ─▶ PullPlan: verified, expanded              parent
           ─▶ content  ─▶ FileImporter: verified, stored            workers
    plan complete ─▶ tree ─▶ images ─▶ commit stream                parent
    barrier ─▶ images/<id>, streams/ostree-commit-<hex>, then the tag

Until the barrier nothing has a name but objects, so whatever ends a pull early leaves no half of a commit
behind, only objects that the next pull finds or a collection removes. A commit that is here already is
not fetched again, as far as it is whole; what is missing of it is. What a pull that fails has fetched is
kept under a name that is no commit's, and not fetched again either.
"""

from __future__ import annotations

import contextlib
import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, FormatError, IntegrityError
from cfsctl.ostree.collected import CollectedCommit
from cfsctl.ostree.delta.use import DeltaUse
from cfsctl.ostree.detached import check_detached, read_detached, store_detached
from cfsctl.ostree.file_workers import FileWorkers
from cfsctl.ostree.images import ensure_image, find_image, name_commit, store_images
from cfsctl.ostree.journal import PullJournal
from cfsctl.ostree.objects import parse_commit
from cfsctl.ostree.partial import drop_partial, find_part_tag, find_partial, save_partial, store_part
from cfsctl.ostree.parts import parse_subpaths
from cfsctl.ostree.plan import DEFAULT_LIMITS, PullPlan
from cfsctl.ostree.policy import check_binding, check_not_older
from cfsctl.ostree.refs import (
    find_tag,
    open_commit,
    open_commit_object,
    parse_commit_id,
    resolve_source,
    stream_name,
    tag_ref,
)
from cfsctl.ostree.source import ObjectMissingError
from cfsctl.ostree.to_tree import XattrNames
from cfsctl.progress import Advanced, Done, Message, Started, Unit, silent
from cfsctl.repository.objects import ObjectDamagedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.commit_stream import CommitStream
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.file_workers import Batch
    from cfsctl.ostree.limits import PlanLimits
    from cfsctl.ostree.objects import Commit, ObjectKind
    from cfsctl.ostree.parts import TreePart
    from cfsctl.ostree.plan import Base
    from cfsctl.ostree.source import Source
    from cfsctl.ostree.to_tree import CommitObjects
    from cfsctl.ostree.trust.gate import Gate
    from cfsctl.ostree.trust.policy import TrustPolicy
    from cfsctl.ostree.trust.verdict import Verified
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.objects import ObjectStore

METADATA_ID: Final = "metadata"
"""Names the progress of commit, dirtrees and dirmetas."""

FILES_ID: Final = "files"
"""Names the progress of content objects."""

RESCUE_TIMEOUT_S: Final = 5.0
"""After an error: how long to wait for content that is in work, so that it need not be fetched again."""


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull did.

    Attributes:
        commit: The commit.
        stream_id: Its splitstream object.
        image_id: Its image in the default format.
        tag: The tag that names it now, or None.
        metadata_fetched: Commits, dirtrees and dirmetas that came from the source.
        files_fetched: Content objects that came from the source.
        received_bytes: Size of all of them, as they came.
        stored_objects: Content that was new in the repository.
        stored_bytes: Size of that.
        is_partial: Whether only a part of the commit is here.
        delta_parts: Parts of a static delta that made some of these objects.
        verified: The signatures by which the commit is trusted, if any had to be.
    """

    commit: Checksum
    stream_id: ObjectID
    image_id: ObjectID
    tag: str | None
    metadata_fetched: int = 0
    files_fetched: int = 0
    received_bytes: int = 0
    stored_objects: int = 0
    stored_bytes: int = 0
    delta_parts: int = 0
    is_partial: bool = False
    verified: tuple[Verified, ...] = ()


def pull(
    repository: Repository,
    source: Source,
    ref_or_commit: str,
    *,
    base_name: str | None = None,
    reporter: Reporter = silent,
    workers: int | None = None,
    xattr_names: XattrNames = XattrNames.STRIPPED,
    allow_downgrade: bool = False,
    limits: PlanLimits = DEFAULT_LIMITS,
    deltas: DeltaStore | None = None,
    only_delta: bool = False,
    subpaths: Sequence[str] = (),
    also_bases: Sequence[Checksum] = (),
    requires_composefs_digest: bool = False,
    trust: TrustPolicy | None = None,
) -> PullResult:
    """Bring a commit into the repository, and make the tag of its ref name it.

    Args:
        repository: Where it goes.
        source: Where it comes from.
        ref_or_commit: A ref of the source, which also becomes the tag, or 64 hex digits.
        base_name: A stored commit (tag, ID or prefix) whose objects need not be fetched.
        reporter: Told about progress, and about what was found damaged.
        workers: Number of processes for content; 0 works in this one, None uses all processors.
        xattr_names: How names of extended attributes go into the image.
        allow_downgrade: Let the tag go back in time.
        limits: What a commit may ask for.
        deltas: Where to look for static deltas; None takes none.
        only_delta: Fail if no delta can be used.
        requires_composefs_digest: Refuse a commit without libostree's composefs digest, or with a wrong one.
        also_bases: Further commits whose objects need not be fetched, asked from the last one on.
        subpaths: Pull only what is at these paths; what was pulled of the commit before stays.
        trust: What the commit has to prove; what a summary has to, its source sees to.

    Returns:
        What was done. If a ref was given, its tag names the commit now, also if all was there before.

    Raises:
        SourceError, FetchError: The source lacks something, or does not answer as it should.
        FormatError, IntegrityError: Something is not valid; the message names the object.
        PolicyError: The commit must not have this ref, or is not signed as it has to be.
        CommitNotFoundError: There is no commit of the base name.
        InvalidSubpathError, SubpathNotFoundError: A subpath is none, or the commit does not have it.
        OSError: Something could not be stored.
    """
    part = parse_subpaths(subpaths)
    repository.check_writable()
    options = _Options(
        base_name,
        workers,
        xattr_names,
        allow_downgrade,
        limits,
        deltas,
        only_delta,
        part,
        also_bases,
        requires_composefs_digest,
        trust,
    )
    checksum = parse_commit_id(ref_or_commit)
    tag = None
    if checksum is None:
        tag = ref_or_commit
        tag_ref(tag)  # Refused before anything is asked for.
        checksum = source.resolve_ref(tag)
    return _Pull(repository, source, checksum, tag, options, reporter).run()


class _Options(NamedTuple):
    base_name: str | None
    workers: int | None
    xattr_names: XattrNames
    allow_downgrade: bool
    limits: PlanLimits
    deltas: DeltaStore | None
    only_delta: bool
    part: TreePart | None
    also_bases: Sequence[Checksum]
    requires_composefs_digest: bool
    trust: TrustPolicy | None


class StoredBase:
    """What is stored as a base: content that is not in the repository any more is as good as absent."""

    def __init__(self, stream: Base, objects: ObjectStore) -> None:
        """Offer the objects of a stream, or of a journal."""
        self._stream = stream
        self._objects = objects

    def find(self, checksum: Checksum) -> tuple[bytes, ObjectID | None] | None:
        """Return the object's data and the ID of content that is an object; see `plan.Base`."""
        found = self._stream.find(checksum)
        if found is None or found[1] is None:
            return found
        size_bytes = int.from_bytes(found[0][8:16], "big")  # As the header says, which is checked later.
        return found if self._objects.is_sound(found[1], size_bytes) else None


class _Pull:
    """One pull, with what it has found out so far."""

    def __init__(
        self,
        repository: Repository,
        source: Source,
        checksum: Checksum,
        tag: str | None,
        options: _Options,
        reporter: Reporter,
    ) -> None:
        self._repository = repository
        self._source = source
        self._checksum = checksum
        self._tag = tag
        self._options = options
        self._report = reporter
        self._plan = PullPlan(checksum, limits=options.limits, part=options.part)
        self._partial: CommitStream | None = None
        self._journal: PullJournal | None = None
        self._is_accepted = False
        self._gate: Gate | None = None
        self._is_detached_known = False
        self._found_detached: bytes | None = None
        self._delta_use: DeltaUse | None = None
        self._delta_objects: dict[Checksum, tuple[bytes, ObjectID | None]] = {}
        self._detached: ObjectID | None = None
        self._received_bytes = self._stored_objects = self._stored_bytes = 0

    def run(self) -> PullResult:
        base = self._open_named_base()
        stored = self._open_stored(self._checksum)
        if stored is not None:
            self._accept(stored.commit, stored.commit_data, stored)
            if self._is_whole(stored):
                return self._keep(stored)
            if stored.detached is not None and self._repository.objects.is_sound(stored.detached):
                self._detached = stored.detached
            self._plan.add_base(self._as_base(stored))
        if base is not None:
            self._plan.add_base(self._as_base(base))
        for other in reversed(self._options.also_bases):
            if other != self._checksum and (stream := self._open_stored(other)) is not None:
                self._plan.add_base(self._as_base(stream))
        self._partial = find_partial(self._repository, self._checksum)
        if self._partial is not None:
            if not self._is_accepted:
                self._accept(self._partial.commit, self._partial.commit_data)
            self._detached = self._detached or self._partial.detached
            self._plan.add_base(self._as_base(self._partial))
        self._journal = journal = PullJournal(self._repository, self._checksum)
        try:
            return self._pull(journal)
        finally:
            journal.close()

    def _pull(self, journal: PullJournal) -> PullResult:
        """Pull what is not here, writing down what arrives."""
        self._use_journal(journal)
        try:
            self._use_delta()
            self._fetch(journal)
        except BaseException:
            self._keep_partial()
            raise
        if self._options.part is not None:
            result = self._store_part()
        else:
            result = self._store()
            drop_partial(self._repository, self._checksum, self._tag)
        journal.remove()
        return result

    def _use_journal(self, journal: PullJournal) -> None:
        """Take what a pull that was killed had written down."""
        commit = journal.find(self._checksum)
        if commit is None:
            return
        if not self._is_accepted and hashlib.sha256(commit[0]).digest() == self._checksum:
            self._accept(parse_commit(commit[0]), commit[0])
        self._plan.add_base(StoredBase(journal, self._repository.objects))

    def _known_objects(self) -> dict[Checksum, tuple[bytes, ObjectID | None]]:
        """Return all that is here of the commit, whoever brought it."""
        known = {} if self._partial is None else self._partial.as_dict()
        if self._journal is not None:
            contains = self._repository.objects.contains
            for checksum, entry in self._journal.objects.items():
                if entry[1] is None or contains(entry[1]):
                    known[checksum] = entry
        known.update(self._delta_objects)
        known.update(self._plan.objects)
        return known

    def _keep_partial(self) -> None:
        """Keep what has been fetched for the next pull; the error that ended this one matters more."""
        objects = self._known_objects()
        if self._checksum not in objects:
            return
        image = None if self._partial is None else self._partial.image
        try:
            save_partial(self._repository, self._checksum, objects, image)
            if self._journal is not None:
                self._journal.remove()
        except (CfsError, OSError) as error:
            self._report(Message(f"what was fetched could not be kept for the next pull: {error}"))

    # Commits that are here

    def _as_base(self, stream: CommitStream) -> StoredBase:
        return StoredBase(stream, self._repository.objects)

    def _open_named_base(self) -> CommitStream | None:
        name = self._options.base_name
        if name is None:
            return None
        return open_commit(self._repository, resolve_source(self._repository, name))

    def _open_stored(self, checksum: Checksum) -> CommitStream | None:
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

    def _is_whole(self, stored: CommitStream) -> bool:
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
            self._report(Message(f"stored commit {self._checksum.hex()}: {what} {how}; fetched again"))
        return not found

    def _keep(self, stored: CommitStream) -> PullResult:
        """Finish where nothing had to be fetched: the image and the tag may still be wrong."""
        self._check_composefs_digest(stored)
        image = ensure_image(self._repository, stored, None, self._options.xattr_names, self._report)
        self._update_record(stored)
        stream_id = self._repository.streams.find(stream_name(self._checksum))
        assert stream_id is not None
        self._repository.streams.link(stream_name(self._checksum), stream_id, self._tag_ref)
        if self._repository.verified.has_news:
            self._repository.sync()
            self._repository.remember(())
        return PullResult(self._checksum, stream_id, image, self._tag, verified=self._verified)

    def _update_record(self, stored: CommitStream) -> None:
        """Keep signatures that were found good with a commit that was stored without, or with other ones."""
        if self._gate is None or self._gate.detached is None:
            return
        detached, record = store_detached(self._repository, self._gate.detached), self._store_record()
        if (detached, record) != (stored.detached, stored.record):
            objects = {checksum: found for checksum in stored if (found := stored.find(checksum))}
            images = store_images(self._repository, stored, self._options.xattr_names)
            name_commit(self._repository, self._checksum, objects, images, detached=detached, record=record)

    @property
    def _tag_ref(self) -> str | None:
        return None if self._tag is None else tag_ref(self._tag)

    # The commit

    def _accept(
        self,
        commit: Commit,
        data: bytes,
        stored: CommitStream | None = None,
        embedded: bytes | None = None,
    ) -> None:
        """Look at the commit before anything of its tree is asked for; find bases that it suggests."""
        self._is_accepted = True
        self._check_signatures(commit, data, stored, embedded)
        previous = None
        if self._tag is not None:
            check_binding(self._checksum, commit, self._tag)
            previous = find_tag(self._repository, self._tag) or find_part_tag(self._repository, self._tag)
        for checksum in dict.fromkeys((previous, commit.parent)):
            if checksum in {None, self._checksum}:
                continue
            stream = self._open_stored(checksum) or find_partial(self._repository, checksum)
            if stream is None:
                continue
            if self._tag is not None and checksum == previous and not self._options.allow_downgrade:
                check_not_older(self._tag, (checksum, stream.commit), (self._checksum, commit))
            self._plan.add_base(self._as_base(stream))

    def _check_signatures(
        self, commit: Commit, data: bytes, stored: CommitStream | None, embedded: bytes | None
    ) -> None:
        """Check that the commit may come in; signatures are looked for where it comes from, and then here."""
        if self._options.trust is None:
            return
        from cfsctl.ostree.trust.gate import Gate  # noqa: PLC0415 - many pulls verify nothing

        self._gate = Gate(self._options.trust)
        found = [self._find_detached, lambda: embedded]
        if stored is not None:
            found.append(lambda: read_detached(self._repository, stored))
        self._gate.check(self._checksum, commit, data, found)

    def _find_detached(self) -> bytes | None:
        """Return the detached metadata as the source has it, which is asked for once."""
        if not self._is_detached_known:
            self._found_detached = self._source.find_detached(self._checksum)
            self._is_detached_known = True
        return self._found_detached

    # Deltas

    def _use_delta(self) -> None:
        """Let a delta make as many objects as it can, if there is one that costs less than they do."""
        if self._options.deltas is None:
            return
        from cfsctl.ostree.delta.apply import DeltaPull  # noqa: PLC0415 - many pulls have no delta

        delta = DeltaPull(
            self._options.deltas,
            self._repository.objects,
            self._open_whole,
            self._as_base,
            self._report,
            must_work=self._options.only_delta,
        )
        self._delta_objects = delta.made.objects
        with contextlib.closing(delta):
            commit = delta.find_commit(self._checksum, has_base=self._has_base())
            if commit is None:
                return
            if not self._is_accepted:
                self._accept(commit, delta.made.objects[self._checksum][0], embedded=delta.commitmeta)
            self._plan.add_base(delta.made)
            candidate = delta.choose(self._plan)
            if candidate is not None:
                self._delta_use = delta.run(self._plan, candidate, self._options.workers)

    def _has_base(self) -> bool:
        """Return whether a commit is here from which objects can be taken, as far as can be told yet."""
        if self._plan.has_base:
            return True
        previous = None if self._tag is None else find_tag(self._repository, self._tag)
        return previous is not None and self._open_stored(previous) is not None

    def _open_whole(self, checksum: Checksum) -> CommitStream | None:
        """Return a stored commit of which everything is here, or None."""
        stream = self._open_stored(checksum)
        if stream is None or self._repository.objects.find_missing(stream.object_refs):
            return None
        return stream

    # Fetching

    def _fetch(self, journal: PullJournal) -> None:
        """Bring the plan to its end."""
        for checksum, entry in self._delta_objects.items():
            journal.append(checksum, *entry)
        self._source.close()  # Nothing of this process' connections may be shared with the workers.
        objects, count = self._repository.objects, self._options.workers
        with FileWorkers(self._source, objects, count, journal.append) as workers:
            try:
                self._fetch_all(workers, journal)
            except BaseException as error:
                self._take(workers.rescue(RESCUE_TIMEOUT_S))
                if isinstance(error, ObjectMissingError):
                    error.hint = self._source.explain_missing(self._checksum) or error.hint
                raise
        self._plan.check_complete()

    def _fetch_all(self, workers: FileWorkers, journal: PullJournal) -> None:
        detached = self._find_detached()
        self._fetch_metadata(workers, journal)
        if self._gate is not None and self._gate.detached is not None:
            detached = self._gate.detached
        if detached is not None:
            check_detached(self._checksum, detached)
            self._detached = store_detached(self._repository, detached)
        self._plan.check_tree()
        self._report(Started(FILES_ID, self._plan.counts.wanted_files, Unit.ITEMS))
        while not workers.is_idle:
            self._take(workers.poll())
        self._report(Done(FILES_ID, self._plan.counts.files))

    def _fetch_metadata(self, workers: FileWorkers, journal: PullJournal) -> None:
        def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
            self._plan.deliver(checksum, kind, data)
            journal.append(checksum, data, None)
            if not self._is_accepted and self._plan.commit is not None:
                self._accept(self._plan.commit, data)
            workers.add(self._plan.take_files())
            self._take(workers.poll(0))
            self._report(Advanced(METADATA_ID, self._plan.counts.metadata, None))

        self._report(Started(METADATA_ID, None, Unit.ITEMS))
        self._source.fetch_metadata(self._plan.next_request, deliver)
        workers.add(self._plan.take_files())
        self._report(Done(METADATA_ID, self._plan.counts.metadata))

    def _take(self, batches: list[Batch]) -> None:
        for batch in batches:
            self._plan.deliver_files(batch.files)
            self._received_bytes += batch.received_bytes
            self._stored_objects += batch.stored_objects
            self._stored_bytes += batch.stored_bytes
        if batches:
            counts = self._plan.counts
            self._report(Advanced(FILES_ID, counts.files, counts.wanted_files))

    # Storing

    def _check_composefs_digest(self, commit: CommitObjects) -> None:
        if self._options.requires_composefs_digest:
            from cfsctl.ostree.composefs_digest import require_composefs_digest  # noqa: PLC0415 - rare

            require_composefs_digest(commit, self._repository.objects)

    def _store_part(self) -> PullResult:
        """Make images of what is here of the commit, and name them and that."""
        assert self._plan.commit is not None
        objects = self._known_objects()
        collected = CollectedCommit(self._checksum, self._plan.commit, objects, is_partial=True)
        images = store_images(self._repository, collected, self._options.xattr_names)
        stream_id = store_part(self._repository, self._checksum, objects, images, self._tag, self._detached)
        return self._result(stream_id, images[self._repository.erofs_versions[0]])

    def _store(self) -> PullResult:
        """Make the images, and name everything."""
        plan = self._plan
        # What the workers stored is on its way to the disk while the images are made.
        flush = self._repository.begin_flush()

        def sync() -> None:
            flush.finish()
            self._repository.sync({found[1] for found in plan.objects.values() if found[1] is not None})

        try:
            assert plan.commit is not None
            collected = CollectedCommit(self._checksum, plan.commit, plan.objects)
            self._check_composefs_digest(collected)
            images = store_images(self._repository, collected, self._options.xattr_names)
            stream_id = name_commit(
                self._repository,
                self._checksum,
                plan.objects,
                images,
                self._tag_ref,
                sync,
                self._detached,
                self._store_record(),
            )
        finally:
            flush.finish()
        self._repository.remember((*images.values(), stream_id))
        return self._result(stream_id, images[self._repository.erofs_versions[0]])

    def _result(self, stream_id: ObjectID, image_id: ObjectID) -> PullResult:
        counts = self._plan.counts
        use = self._delta_use or DeltaUse("none")
        return PullResult(
            self._checksum,
            stream_id,
            image_id,
            self._tag,
            counts.metadata + use.metadata,
            counts.files + use.files,
            self._received_bytes + use.received_bytes,
            self._stored_objects,
            self._stored_bytes,
            use.parts,
            is_partial=self._options.part is not None,
            verified=self._verified,
        )

    @property
    def _verified(self) -> tuple[Verified, ...]:
        return () if self._gate is None else tuple(self._gate.verified)

    def _store_record(self) -> ObjectID | None:
        """Store which signatures were found good, if any were looked at."""
        if not self._verified:
            return None
        from cfsctl.ostree.trust.gate import store_record  # noqa: PLC0415 - many pulls verify nothing

        return store_record(self._repository, self._verified)
