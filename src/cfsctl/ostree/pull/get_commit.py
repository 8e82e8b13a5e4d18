"""Second step of a pull: get the commit, and check it before anything of its tree is asked for."""

from __future__ import annotations

import contextlib
import hashlib
from typing import TYPE_CHECKING

from cfsctl.ostree.objects import parse_commit
from cfsctl.ostree.store.binding import check_binding, check_not_older
from cfsctl.ostree.store.commit_proof import is_proven
from cfsctl.ostree.trust.tags import TagMove
from cfsctl.ostree.trust.verify import CommitVerifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.apply import DeltaCandidate, DeltaPull
    from cfsctl.ostree.delta.store import DeltaStore
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.pull.find_bases import BaseFinder
    from cfsctl.ostree.pull.journal import PullJournal
    from cfsctl.ostree.pull.task import PullTask
    from cfsctl.ostree.store.commit_stream import CommitStream


class CommitGetter:
    """Gets the commit from the first place that has it.

    Attributes:
        verifier: Verifies its signatures.
        detached: Stored object of its detached metadata, or None.
        is_accepted: Whether it was verified and accepted.
        is_admitted: Whether it has passed all checks.
        choice: Why the best delta is used, or is not; see `DeltaPull.reason`.
        was_proven: Whether it was stored, with files that were known to be its own.
    """

    def __init__(
        self,
        task: PullTask,
        bases: BaseFinder,
        also_check: Callable[[Checksum, Commit], None] | None = None,
    ) -> None:
        """Prepare; nothing is requested yet.

        Args:
            task: What is pulled.
            bases: Told which stored commits have much in common with the commit.
            also_check: Called with the commit once all else is right; raises if it must not be pulled.
        """
        self.verifier = CommitVerifier(
            task.repository,
            task.checksum,
            task.options.trust,
            lambda: task.source.find_detached(task.checksum),
        )
        self.detached: ObjectID | None = None
        self.is_accepted = False
        self.is_admitted = False
        self.was_proven = False
        self.choice: str | None = None
        self._task = task
        self._bases = bases
        self._also_check = also_check
        self._move = _make_move(task)

    def find_here(self) -> CommitStream | None:
        """Return the commit if it is stored completely; otherwise use its stored parts as bases."""
        if self._task.options.from_scratch:
            return None
        named = self._bases.open_named()
        stored = self._bases.stored.open(self._task.checksum)
        if stored is not None:
            self.was_proven = is_proven(self._task.repository, stored)
            is_whole = self._bases.stored.is_whole(stored)
            self.accept(stored.commit, stored.commit_data, stored, needs_bases=not is_whole)
            if is_whole:
                return stored
            self._find_detached_of(stored)
            self._bases.add(stored)
        if named is not None:
            self._bases.add_other(named)
        self._bases.add_also()
        self._use_partial()
        return None

    def _find_detached_of(self, stored: CommitStream) -> None:
        if stored.detached is not None and self._task.repository.objects.is_sound(stored.detached):
            self.detached = stored.detached

    def _use_partial(self) -> None:
        """Take what an earlier pull has left of the commit."""
        partial = self._bases.open_partial()
        if partial is None:
            return
        if not self.is_accepted:
            self.accept(partial.commit, partial.commit_data)
        self.detached = self.detached or partial.detached
        self._bases.add(partial)

    def use_journal(self, journal: PullJournal) -> None:
        """Take what a pull that was killed had written down."""
        checksum = self._task.checksum
        commit = journal.find(checksum)
        if commit is None:
            return
        if not self.is_accepted and hashlib.sha256(commit[0]).digest() == checksum:
            self.accept(parse_commit(commit[0]), commit[0])
        self._bases.add(journal)

    def open_deltas(self, deltas: DeltaStore) -> DeltaPull:
        """Return what finds and runs a delta to the commit."""
        from cfsctl.ostree.delta.apply import DeltaPull  # many pulls have no delta

        return DeltaPull(
            deltas,
            self._task.repository.objects,
            self._bases.stored.open_whole,
            self._bases.stored.as_base,
            self._task.report,
            must_work=self._task.options.only_delta,
        )

    def choose_delta(self, delta: DeltaPull) -> DeltaCandidate | None:
        """Return the delta to use, if one is worth it; check the commit as soon as one has it."""
        checksum, plan = self._task.checksum, self._task.plan
        commit = delta.find_commit(checksum, has_base=self._bases.has_other())
        if commit is None:
            return None
        if not self.is_accepted:
            self.accept(commit, delta.made.objects[checksum][0], embedded=delta.commitmeta)
        plan.add_base(delta.made)
        candidate = delta.choose(plan)
        self.choice = delta.reason
        return candidate

    def accept_delivered(self, data: bytes) -> None:
        """Check the commit if the plan has just got it from the source."""
        if not self.is_accepted and self._task.plan.commit is not None:
            self.accept(self._task.plan.commit, data)

    def accept(
        self,
        commit: Commit,
        data: bytes,
        stored: CommitStream | None = None,
        embedded: bytes | None = None,
        *,
        needs_bases: bool = True,
    ) -> None:
        """Check the commit, and find bases that it suggests.

        Args:
            commit: The commit, whose checksum is right.
            data: Its bytes.
            stored: The same as it is stored here, or None.
            embedded: Detached metadata that came with it, or None.
            needs_bases: Whether something of it has to be fetched.

        Raises:
            PolicyError: It must not have the tag, or is not signed as it has to be.
        """
        self.is_accepted = True
        self.verifier.verify(commit, data, stored, embedded)
        tag = self._task.tag
        tagged = None
        if tag is not None:
            check_binding(self._task.checksum, commit, tag)
            tagged = self._bases.find_tagged()
            self._check_move(tag, tagged, commit)
        for stream in self._bases.iter_related(commit, tagged, with_parent=needs_bases):
            self._bases.add_other(stream)
        if needs_bases:
            self._bases.add_similar(commit)
        if self._also_check is not None:
            self._also_check(self._task.checksum, commit)
        self.is_admitted = True

    def _check_move(self, tag: str, tagged: Checksum | None, commit: Commit) -> None:
        """Check that the tag may go from the commit that it names to this one."""
        assert self._move is not None
        stream = None if tagged is None else self._bases.open(tagged)
        self._move.look(tagged, stream)
        if not self._task.options.allow_downgrade:
            old = None if stream is None else (stream.checksum, stream.commit)
            check_not_older(tag, old, (self._task.checksum, commit))
        if tagged is not None:
            self._move.check(tagged, self._task.checksum)

    @contextlib.contextmanager
    def keeping_demand(self, *, has_record: bool = False) -> Iterator[None]:
        """Store what is demanded now with the tag, which is set within the block."""
        if self._move is not None:
            self._move.begin(self.verifier.verified, has_record=has_record)
        yield
        if self._move is not None:
            self._move.end()


def _make_move(task: PullTask) -> TagMove | None:
    """Return the tag that is to name the commit, with what it demands; None if none exists."""
    if task.tag is None:
        return None
    options = task.options
    return TagMove(
        task.repository,
        task.tag,
        options.trust,
        is_mirror=options.is_mirror,
        allow_unverified=options.allow_unverified,
    )
