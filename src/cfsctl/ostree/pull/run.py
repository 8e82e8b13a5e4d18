"""The steps of one pull; see `cfsctl.ostree.pull.pull` for the guarantees."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ObjectMissingError
from cfsctl.ostree.delta.use import DeltaStats
from cfsctl.ostree.objects import parse_commit
from cfsctl.ostree.plan import PullPlan
from cfsctl.ostree.pull.bases import BaseCommits
from cfsctl.ostree.pull.fetch import FileWorkers
from cfsctl.ostree.pull.journal import PullJournal
from cfsctl.ostree.pull.options import PullOptions, PullResult
from cfsctl.ostree.store.binding import check_binding, check_not_older
from cfsctl.ostree.store.commit_proof import is_proven, remember_proof
from cfsctl.ostree.store.commitmeta import check_detached, store_detached
from cfsctl.ostree.store.images import ensure_image
from cfsctl.ostree.store.in_memory import InMemoryCommit
from cfsctl.ostree.store.partial_commits import drop_partial, save_partial, store_part
from cfsctl.ostree.store.partial_tags import find_part_tag
from cfsctl.ostree.store.publish import publish_commit, restate_commit, store_images
from cfsctl.ostree.store.refs import (
    find_tag,
    open_commit,
    resolve_source,
    stream_name,
    tag_ref,
)
from cfsctl.ostree.trust.admission import Admission
from cfsctl.ostree.trust.tags import TagMove
from cfsctl.progress import Advanced, Done, Message, Started, Unit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.apply import DeltaCandidate, DeltaPull
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.objects import Commit, ObjectKind
    from cfsctl.ostree.pull.fetch import Batch
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.tree.to_tree import CommitObjects
    from cfsctl.progress import Event, Reporter
    from cfsctl.repository import Repository

METADATA_ID: Final = "metadata"
"""Names the progress of commit, dirtrees and dirmetas."""

FILES_ID: Final = "files"
"""Names the progress of content objects."""

RESCUE_TIMEOUT_S: Final = 5.0
"""After an error: how long to wait for content that is in work, so that it need not be fetched again."""


class PullRun:
    """One pull, with what it has found out so far."""

    def __init__(
        self,
        repository: Repository,
        source: ObjectSource,
        checksum: Checksum,
        tag: str | None,
        options: PullOptions,
        reporter: Reporter,
    ) -> None:
        """Ask for nothing yet."""
        self._repository = repository
        self._source = source
        self._checksum = checksum
        self._tag = tag
        self._options = options
        self._report = reporter
        self._stored = BaseCommits(repository, reporter)
        self._plan = PullPlan(checksum, limits=options.limits, part=options.part)
        self._partial: CommitStream | None = None
        self._journal: PullJournal | None = None
        self._is_accepted = False  # looked at, whatever came out
        self._is_admitted = False
        self._was_proven = False
        self._has_other = False
        self._admission = Admission(repository, source, checksum, options.trust)
        self._move = _make_move(repository, tag, options)
        self._delta_use: DeltaStats | None = None
        self._delta_objects: dict[Checksum, tuple[bytes, ObjectID | None]] = {}
        self._detached: ObjectID | None = None
        self._received_bytes = self._stored_objects = self._stored_bytes = 0

    def run(self) -> PullResult:
        """Bring the commit here, and name it."""
        whole = self._find_here()
        if whole is not None:
            return self._keep(whole)
        self._journal = journal = PullJournal(self._repository, self._checksum)
        try:
            return self._pull(journal)
        finally:
            journal.close()

    def _find_here(self) -> CommitStream | None:
        """Return the commit if it is here as a whole; else take all that is here of it as bases."""
        if self._options.from_scratch:
            return None
        base = self._open_named_base()
        stored = self._stored.open(self._checksum)
        if stored is not None:
            self._was_proven = is_proven(self._repository, stored)
            is_whole = self._stored.is_whole(stored)
            self._accept(stored.commit, stored.commit_data, stored, needs_bases=not is_whole)
            if is_whole:
                return stored
            if stored.detached is not None and self._repository.objects.is_sound(stored.detached):
                self._detached = stored.detached
            self._plan.add_base(self._stored.as_base(stored))
        if base is not None:
            self._add_other(base)
        for other in reversed(self._options.also_bases):
            if other != self._checksum and (stream := self._stored.open(other)) is not None:
                self._add_other(stream)
        self._partial = self._stored.open_partial(self._checksum)
        if self._partial is not None:
            if not self._is_accepted:
                self._accept(self._partial.commit, self._partial.commit_data)
            self._detached = self._detached or self._partial.detached
            self._plan.add_base(self._stored.as_base(self._partial))
        return None

    def _pull(self, journal: PullJournal) -> PullResult:
        """Pull what is not here, writing down what arrives."""
        self._use_journal(journal)
        try:
            self._use_delta(journal)
            self._fetch(journal)
        except BaseException:
            with contextlib.suppress(OSError):
                journal.refresh()
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
        self._plan.add_base(self._stored.as_base(journal))

    def _known_objects(self) -> dict[Checksum, tuple[bytes, ObjectID | None]]:
        """Return all that is here of the commit, whoever brought it."""
        known = {} if self._partial is None else self._partial.as_dict()
        if self._journal is not None and self._journal.is_proven:
            contains = self._repository.objects.contains
            for checksum, entry in self._journal.objects.items():
                if entry[1] is None or contains(entry[1]):
                    known[checksum] = entry
        known.update(self._delta_objects)
        known.update(self._plan.objects)
        return known

    def _keep_partial(self) -> None:
        """Store what has been fetched for the next pull; the error that ended this one matters more.

        Of a commit that was refused nothing is kept: it may be large, and would be refused again.
        """
        if not self._is_admitted:
            return
        objects = self._known_objects()
        for checksum in self._stored.find_unproven():
            objects.pop(checksum, None)
        if self._checksum not in objects:
            return
        image = None if self._partial is None else self._partial.image
        try:
            save_partial(self._repository, self._checksum, objects, image)
            if self._journal is not None:
                self._journal.remove()
        except (CfsError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            self._report(Message(f"what was fetched could not be kept for the next pull: {reason}"))

    # Commits that are here

    def _open_named_base(self) -> CommitStream | None:
        name = self._options.base_name
        if name is None:
            return None
        return open_commit(self._repository, resolve_source(self._repository, name))

    def _keep(self, stored: CommitStream) -> PullResult:
        """Finish where nothing had to be fetched: the image and the tag may still be wrong."""
        self._check_composefs_digest(stored)
        self._stored.restore_lost()
        image = ensure_image(self._repository, stored, None, self._options.xattr_names, self._report)
        self._update_detached(stored)
        drop_partial(self._repository, self._checksum, self._tag)
        stream_id = self._repository.streams.find(stream_name(self._checksum))
        assert stream_id is not None
        with self._keeping_demand(has_record=stored.record is not None):
            self._repository.streams.link(stream_name(self._checksum), stream_id, self._tag_ref)
        if self._repository.verified.has_news:
            self._repository.sync()
            self._repository.save_marks(())
        return PullResult(self._checksum, stream_id, image, self._tag, verified=self._admission.verified)

    def _update_detached(self, stored: CommitStream) -> None:
        """Store what the source says about a commit next to it, where that is more than was stored.

        The original does not store it, and signatures may have come since. What is not verified only takes an
        empty place: it must not push signatures out that were found good. For that it is asked for once, when
        the commit is proven: a pull that finds nothing new asks for nothing.
        """
        proof = self._admission.proof
        if proof is None and (stored.detached is not None or self._was_proven):
            return
        found = self._admission.find_detached() if proof is None else proof
        if found is None:
            return
        check_detached(self._checksum, found)
        detached = store_detached(self._repository, found)
        record = stored.record if proof is None else self._admission.store_record()
        if (detached, record) != (stored.detached, stored.record):
            stream_id = restate_commit(self._repository, self._checksum, detached, record)
            remember_proof(self._repository, self._checksum, stream_id)

    @contextlib.contextmanager
    def _keeping_demand(self, *, has_record: bool = False) -> Iterator[None]:
        """Store what is demanded now with the tag, which is set within the block."""
        if self._move is not None:
            self._move.begin(self._admission.verified, has_record=has_record)
        yield
        if self._move is not None:
            self._move.end()

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
        *,
        needs_bases: bool = True,
    ) -> None:
        """Look at the commit before anything of its tree is asked for; find bases that it suggests."""
        self._is_accepted = True
        self._admission.check(commit, data, stored, embedded)
        previous = None
        if self._tag is not None:
            check_binding(self._checksum, commit, self._tag)
            previous = find_tag(self._repository, self._tag) or find_part_tag(self._repository, self._tag)
            self._check_move(self._tag, previous, commit)
        for checksum in dict.fromkeys((previous, commit.parent if needs_bases else None)):
            if checksum in {None, self._checksum}:
                continue
            stream = self._stored.open(checksum) or self._stored.open_partial(checksum)
            if stream is not None:
                self._add_other(stream)
        self._is_admitted = True

    def _check_move(self, tag: str, previous: Checksum | None, commit: Commit) -> None:
        """Check that the tag may go from the commit that it names to this one."""
        assert self._move is not None
        stream = None
        if previous is not None:
            stream = self._stored.open(previous) or self._stored.open_partial(previous)
        self._move.look(previous, stream)
        if not self._options.allow_downgrade:
            old = None if stream is None else (stream.checksum, stream.commit)
            check_not_older(tag, old, (self._checksum, commit))
        if previous is not None:
            self._move.check(previous, self._checksum)

    # Deltas

    def _use_delta(self, journal: PullJournal) -> None:
        """Let a delta make as many objects as it can, if there is one that costs less than they do."""
        deltas = self._usable_deltas
        if deltas is None:
            return
        with contextlib.closing(self._make_delta_pull(deltas)) as delta:
            self._delta_objects = delta.made.objects
            candidate = self._choose_delta(delta)
            for checksum, entry in delta.made.objects.items():
                journal.append(checksum, *entry)  # The commit, whether or not the delta is used.
            if candidate is not None:
                workers = self._options.workers
                self._delta_use = delta.run(self._plan, candidate, workers, journal.append)

    @property
    def _usable_deltas(self) -> DeltaStore | None:
        """Where to look for deltas; for a part of a commit nowhere, since a delta makes all of it."""
        return self._options.deltas if self._options.part is None else None

    def _make_delta_pull(self, deltas: DeltaStore) -> DeltaPull:
        from cfsctl.ostree.delta.apply import DeltaPull  # noqa: PLC0415 - many pulls have no delta

        return DeltaPull(
            deltas,
            self._repository.objects,
            self._stored.open_whole,
            self._stored.as_base,
            self._report,
            must_work=self._options.only_delta,
        )

    def _choose_delta(self, delta: DeltaPull) -> DeltaCandidate | None:
        """Return the delta to use, if one is worth it; look at the commit as soon as one has it."""
        commit = delta.find_commit(self._checksum, has_base=self._has_base())
        if commit is None:
            return None
        if not self._is_accepted:
            self._accept(commit, delta.made.objects[self._checksum][0], embedded=delta.commitmeta)
        self._plan.add_base(delta.made)
        return delta.choose(self._plan)

    def _add_other(self, stream: CommitStream) -> None:
        """Take objects from another commit as well."""
        if self._options.from_scratch:
            return
        self._has_other = True
        self._plan.add_base(self._stored.as_base(stream))

    def _has_base(self) -> bool:
        """Return whether another commit is here to take objects from, as far as can be told yet."""
        if self._has_other:
            return True
        previous = None if self._tag is None else find_tag(self._repository, self._tag)
        return previous is not None and self._stored.open(previous) is not None

    # Fetching

    def _fetch(self, journal: PullJournal) -> None:
        """Bring the plan to its end."""
        self._source.close()  # Nothing of this process' connections may be shared with the workers.
        objects, count = self._repository.objects, self._options.workers
        with FileWorkers(self._source, objects, count, journal.extend) as workers:
            try:
                self._fetch_all(workers, journal)
            except BaseException as error:
                # Who interrupts does not wait; what workers have noted by then is kept all the same.
                self._take(workers.rescue(RESCUE_TIMEOUT_S if isinstance(error, Exception) else 0.0))
                if isinstance(error, ObjectMissingError):
                    error.hint = self._source.explain_missing(self._checksum) or error.hint
                raise
        self._plan.check_complete()

    def _fetch_all(self, workers: FileWorkers, journal: PullJournal) -> None:
        detached = self._admission.find_detached()
        self._report(Started(FILES_ID, None, Unit.ITEMS))  # some arrive while metadata does
        self._fetch_metadata(workers, journal)
        if self._admission.proof is not None:
            detached = self._admission.proof
        if detached is not None:
            check_detached(self._checksum, detached)
            self._detached = store_detached(self._repository, detached)
        self._plan.check_tree()
        self._replace_damaged(workers)
        while not workers.is_idle:
            self._take(workers.poll())
        self._report(Done(FILES_ID, self._plan.counts.files))

    def _replace_damaged(self, workers: FileWorkers) -> None:
        """Read what bases had and nobody has verified lately; want files again of which that is damaged."""

        def report(event: Event) -> None:
            self._report(event)
            self._take(workers.poll(0))

        damaged = self._stored.find_damaged(report)
        if damaged:
            self._plan.take_back(damaged)
            workers.add(self._plan.take_files())

    def _fetch_metadata(self, workers: FileWorkers, journal: PullJournal) -> None:
        def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
            self._plan.deliver(checksum, kind, data)
            if not self._is_accepted and self._plan.commit is not None:
                self._accept(self._plan.commit, data)
            journal.append(checksum, data, None)  # What is refused is not kept.
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
            self._report(Advanced(FILES_ID, counts.files, counts.wanted_files, self._received_bytes))

    # Storing

    def _check_composefs_digest(self, commit: CommitObjects) -> None:
        if self._options.requires_composefs_digest:
            from cfsctl.ostree.tree.composefs_digest import require_composefs_digest  # noqa: PLC0415 - rare

            require_composefs_digest(commit, self._repository.objects)

    def _store_part(self) -> PullResult:
        """Make images of what is here of the commit, and name them and that."""
        assert self._plan.commit is not None
        objects = self._known_objects()
        collected = InMemoryCommit(self._checksum, self._plan.commit, objects, is_partial=True)
        images = store_images(self._repository, collected, self._options.xattr_names)
        with self._keeping_demand():
            stream_id = store_part(
                self._repository,
                self._checksum,
                objects,
                images,
                self._tag,
                self._detached,
                self._admission.store_record(),
            )
        return self._result(stream_id, images[self._repository.erofs_versions[0]])

    def _store(self) -> PullResult:
        """Make the images, and name everything."""
        assert self._plan.commit is not None
        collected = InMemoryCommit(self._checksum, self._plan.commit, self._plan.objects)
        self._check_composefs_digest(collected)
        with self._keeping_demand():
            stream_id, image_id = publish_commit(
                self._repository,
                collected,
                xattr_names=self._options.xattr_names,
                verified=self._stored.find_verified(),
                tag_ref=self._tag_ref,
                detached=self._detached,
                record=self._admission.store_record(),
                may_fork=self._options.workers != 0,
            )
        return self._result(stream_id, image_id)

    def _result(self, stream_id: ObjectID, image_id: ObjectID) -> PullResult:
        counts = self._plan.counts
        use = self._delta_use or DeltaStats("none")
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
            verified=self._admission.verified,
        )


def _make_move(repository: Repository, tag: str | None, options: PullOptions) -> TagMove | None:
    """Return the tag that is to name the commit, with what it demands; None if none exists."""
    if tag is None:
        return None
    trust = options.trust
    return TagMove(
        repository, tag, trust, is_mirror=options.is_mirror, allow_unverified=options.allow_unverified
    )
