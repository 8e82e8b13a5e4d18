"""Apply a delta during a pull.

The delta's objects become one more base of the plan: the plan uses the objects that the commit reaches,
ignores the rest, and requests what is missing. An incomplete delta, fallback objects and a delta that fails
half-way are all handled in this way, and a commit is only stored when all of its objects exist.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cfsctl import logs
from cfsctl.errors import CfsError, ExitCode
from cfsctl.ostree.delta.budget import check_room
from cfsctl.ostree.delta.choice import (
    Estimate,
    choose_way,
    estimate_delta,
    estimate_objects,
    estimate_objects_of,
    needed_parts,
)
from cfsctl.ostree.delta.format import DeltaError, fail
from cfsctl.ostree.delta.part import check_digest
from cfsctl.ostree.delta.run import CommitFiles, PartResult, run_parts
from cfsctl.ostree.delta.superblock import Superblock, parse_superblock
from cfsctl.ostree.delta.use import DeltaStats
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.store import DeltaInfo, DeltaStore, Readable
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.plan import Base, PullPlan
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.progress import Reporter
    from cfsctl.repository.objects.store import ObjectStore

MAX_CANDIDATES: Final = 3
"""Superblocks that are fetched to compare deltas."""

_INFO: Final = 20
"""The level of `logging`, which is not imported where nobody listens."""


class BaseMissingError(DeltaError):
    """A delta that starts from a commit that is not here."""

    exit_code = ExitCode.NOT_FOUND


class DeltaBase:
    """What a delta has made, as a base of a plan; see `plan.Base`.

    Attributes:
        objects: All of it, by checksum.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.objects: dict[Checksum, StoredContent] = {}

    def add(self, checksum: Checksum, data: bytes, object_id: ObjectID | None) -> None:
        """Take an object that was verified."""
        self.objects[checksum] = (data, object_id)

    def find(self, checksum: Checksum) -> StoredContent | None:
        """Return an object's data and the ID of content that is an object."""
        return self.objects.get(checksum)


@dataclass(slots=True)
class DeltaCandidate:
    """A delta that could be taken.

    Attributes:
        offer: Where it is.
        superblock: What it says.
        base: The commit it starts from, or None.
        parts: Its parts that make something that is not here.
        estimate: What would have to be fetched.
    """

    offer: DeltaInfo
    held: Readable
    superblock: Superblock
    base: CommitStream | None
    parts: list[int]
    estimate: Estimate


class DeltaPull:
    """Finds, chooses and runs the delta of one pull. To be closed.

    Attributes:
        made: What it has made so far, the commit first of all; to be a base of the plan.
        commitmeta: Detached metadata of the commit, as the delta has it.
        reason: Whether the best delta is used, and why; None if there is none, or nothing to compare it with.
    """

    def __init__(
        self,
        store: DeltaStore,
        objects: ObjectStore,
        open_commit: Callable[[Checksum], CommitStream | None],
        as_base: Callable[[CommitStream], Base],
        report: Reporter,
        *,
        must_work: bool = False,
    ) -> None:
        """Get ready.

        Args:
            store: Where deltas come from.
            objects: The repository's objects.
            open_commit: Returns a stored commit that is whole, or None.
            as_base: Returns a stored commit as a base of a plan.
            report: Called with a message for each unusable delta.
            must_work: Raise what goes wrong, instead of reporting it and going on without.
        """
        self._store = store
        self._objects = objects
        self._open_commit = open_commit
        self._as_base = as_base
        self._report = report
        self._must_work = must_work
        self._candidates: list[DeltaCandidate] = []
        self.made = DeltaBase()
        self.commitmeta: bytes | None = None
        self.reason: str | None = None

    def close(self) -> None:
        """Release the superblocks."""
        while self._candidates:
            self._candidates.pop().held.close()

    # Finding

    def find_commit(self, checksum: Checksum, *, has_base: bool) -> Commit | None:
        """Find deltas to a commit; return the commit if one contains it.

        Args:
            checksum: The commit.
            has_base: Whether a stored commit can be used as a base: a delta from scratch would
                contain objects that are already stored.
        """
        try:
            offers = self._usable(self._store.find(checksum), has_base=has_base)
        except CfsError as error:
            self._fail(error, "the list of deltas")
            return None
        for offer, base in offers[:MAX_CANDIDATES]:
            try:
                self._candidates.append(self._open(offer, base))
            except CfsError as error:
                self._fail(error, offer.description)
        if not self._candidates:
            return None
        superblock = self._candidates[0].superblock
        self.made.add(superblock.to_checksum, superblock.commit_data, None)
        self.commitmeta = superblock.commitmeta
        return superblock.commit

    def _usable(
        self, offers: list[DeltaInfo], *, has_base: bool
    ) -> list[tuple[DeltaInfo, CommitStream | None]]:
        """Return the deltas that can be applied here, from newer commits first, from nothing last."""
        found = []
        for offer in offers:
            base = None if offer.from_checksum is None else self._open_commit(offer.from_checksum)
            if base is not None or (offer.from_checksum is None and (not has_base or self._must_work)):
                found.append((offer, base))
        return sorted(
            found, key=lambda pair: -1 if pair[1] is None else pair[1].commit.timestamp_s, reverse=True
        )

    def _open(self, offer: DeltaInfo, base: CommitStream | None) -> DeltaCandidate:
        held = self._store.fetch_superblock(offer, self._objects)
        try:
            view = held.view()
            if offer.digest is not None:
                check_digest(view, offer.digest, "superblock")
            superblock = parse_superblock(view)
            base = self._check_ends(offer, superblock, base)
            return DeltaCandidate(offer, held, superblock, base, [], Estimate(0, 0))
        except BaseException:
            held.close()
            raise

    def _check_ends(
        self, offer: DeltaInfo, superblock: Superblock, base: CommitStream | None
    ) -> CommitStream | None:
        """Check that a delta leads from where to where it should; return the commit it starts from."""
        if superblock.to_checksum != offer.to_checksum:
            fail("to", offer.to_checksum.hex(), superblock.to_checksum.hex())
        if superblock.from_checksum == offer.from_checksum:
            return base
        if not self._must_work:
            found = "nothing" if superblock.from_checksum is None else superblock.from_checksum.hex()
            fail("from", "nothing" if offer.from_checksum is None else offer.from_checksum.hex(), found)
        assert superblock.from_checksum is not None
        stream = self._open_commit(superblock.from_checksum)
        if stream is None:
            raise BaseMissingError(
                f"base commit {superblock.from_checksum.hex()} not found in repository",
                hint="pull that commit first, or take a delta from another one",
            )
        return stream

    def _fail(self, error: CfsError, what: str) -> None:
        if self._must_work:
            raise error
        self._report(Message(f"{what} is not used: {error}"))

    # Choosing and running

    def choose(self, plan: PullPlan) -> DeltaCandidate | None:
        """Return the cheapest delta, or None if fetching objects one by one costs less."""
        if not self._candidates:
            return None
        for candidate in self._candidates:
            is_here = self._make_test(plan, candidate)
            candidate.parts = needed_parts(candidate.superblock, is_here)
            candidate.estimate = estimate_delta(candidate.superblock, candidate.parts, is_here)
        best = min(self._candidates, key=lambda candidate: candidate.estimate.cost)
        return best if self._must_work or self._is_worth_it(plan, best) else None

    def _is_worth_it(self, plan: PullPlan, best: DeltaCandidate) -> bool:
        """Return whether a delta is to be taken rather than the objects, and say why."""
        round_trip_s: float | None = getattr(self._store, "round_trip_s", None)
        is_here = self._make_test(plan, best)
        objects = estimate_objects(best.superblock.commit, is_here)
        if objects is None and round_trip_s is None:
            return True  # nothing to compare it with
        if objects is None:
            objects = estimate_objects_of(best.superblock, best.parts, is_here)
        choice = choose_way(best.estimate, objects, round_trip_s)
        self.reason = f"{'used' if choice.takes_delta else 'not used'}: {choice.reason}"
        listener = logs.find_listened("cfsctl.ostree", _INFO)
        if listener is not None:
            listener.info("%s is %s", best.superblock.description, self.reason)
        return choice.takes_delta

    def _make_test(self, plan: PullPlan, candidate: DeltaCandidate) -> Callable[[Checksum], bool]:
        """Return a function that says whether the pull would have an object without fetching it."""
        if candidate.base is None:
            return plan.is_in_base
        find = self._as_base(candidate.base).find
        return lambda checksum: find(checksum) is not None or plan.is_in_base(checksum)

    def run(
        self,
        plan: PullPlan,
        candidate: DeltaCandidate,
        workers: int | None,
        note: Callable[[Checksum, bytes, ObjectID | None], None],
        beside: Callable[[], bool] | None = None,
    ) -> DeltaStats:
        """Run a delta; what it makes is in `made`, and `note` is told of it as soon as a part is done.

        Args:
            plan: What is pulled.
            candidate: The delta.
            workers: See `run_parts`.
            note: Told of each object that was made.
            beside: See `run_parts`.
        """
        use = DeltaStats(candidate.superblock.description, metadata=1)

        def take(result: PartResult) -> None:
            use.parts += 1
            use.received_bytes += result.received_bytes
            for produced in result.produced:
                self.made.add(*produced)
                note(*produced)
            entries = candidate.superblock.parts[result.number].objects[: len(result.produced)]
            metadata = sum(kind.is_metadata for kind, _ in entries)
            use.metadata += metadata
            use.files += len(entries) - metadata

        self._store.close()  # Nothing of this process' connections may be shared with the workers.
        sources = CommitFiles(candidate.base, self._objects)
        try:
            check_room(candidate.superblock, candidate.parts, self._objects.count_free_bytes())
            run_parts(
                self._store,
                candidate.offer,
                candidate.superblock,
                candidate.parts,
                sources,
                self._objects,
                take,
                workers,
                beside,
            )
        except CfsError as error:
            self._fail(error, candidate.superblock.description)
        if candidate.base is not None:
            plan.add_base(self._as_base(candidate.base))
        return use
