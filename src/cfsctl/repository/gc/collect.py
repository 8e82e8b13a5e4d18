"""Collect garbage: remove every object that no ref leads to.

Guarantees, even if the process is killed at any point:

* While objects are removed, no other process has the repository open.
* Names are removed first, and the removal is synced before the first object is deleted. So every existing
  name leads to a complete set of objects, and a killed collection only leaves more garbage.
* Unknown data is kept: foreign files are reported and not touched, and if something in use cannot be read,
  no object is removed at all (see `cfsctl.repository.gc.mark`).
* Mounted images are kept, in any namespace, with or without a ref (see `cfsctl.repository.gc.live_mounts`).
* The limit on removals is checked before the first name is removed.

A dry run holds only the shared lock and changes nothing. Like composefs-rs, it counts all objects that would
be removed, but only links that are already broken.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import object_path
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.gc.live import LiveObjects
from cfsctl.repository.gc.live_mounts import find_live_mounts
from cfsctl.repository.gc.mark import YOUNG, Marker
from cfsctl.repository.gc.reachability import ReachabilityPath
from cfsctl.repository.gc.results import DeleteLimit, GcResult, Why
from cfsctl.repository.gc.sweep import (
    Garbage,
    Sweep,
    find_journals,
    find_leftovers,
    remove_leftovers,
    remove_objects,
)
from cfsctl.repository.objects.reader import StoredObjectMissingError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository.gc.marks import CategoryMarks, Marks
    from cfsctl.repository.gc.mount_finder import LiveMount
    from cfsctl.repository.gc.sweep import DeadObject
    from cfsctl.repository.repository import Repository

MARK_ID: Final = "mark"
SWEEP_ID: Final = "sweep"
"""Names the progress of finding what is in use, and of removing what is not."""

_MAX_PROBLEMS: Final = 1000
"""Problems that are kept; a directory of a million foreign files must not fill the memory."""


def collect_garbage(
    repository: Repository,
    *,
    extra_roots: Iterable[str] = (),
    dry_run: bool = False,
    lock_timeout_s: float | None = None,
    grace_s: float = 0,
    limit: DeleteLimit | None = None,
    prepare: Callable[[Repository], None] = lambda _: None,
    ignored_refs: Collection[str] = (),
    reporter: Reporter = silent,
) -> GcResult:
    """Remove what no ref, no mount and no extra root leads to.

    Args:
        repository: The repository, open.
        extra_roots: Further images and streams to keep, by any of their names.
        dry_run: Count only.
        lock_timeout_s: Longest time to wait for the exclusive lock; None waits forever.
        grace_s: Keep garbage that is younger than this, in seconds, and what young images and streams need.
        limit: The most that may be removed, or None for anything.
        prepare: Called under the exclusive lock; removes refs that are no longer needed.
            Not called in a dry run.
        ignored_refs: Of a dry run: refs that count as removed, as paths below the repository.
        reporter: Told what is looked through and removed; if it raises, the collection ends there, and what
            was garbage and is left is garbage still.

    Raises:
        NotWritableError: The repository cannot be written to; not in a dry run.
        RefNotFoundError: An extra root that does not exist; nothing was removed.
        TooMuchGarbageError: More than `limit` is garbage; nothing was removed.
        LockedError: The timeout expired.
        OSError: A directory cannot be read or changed; some garbage may be gone.
    """
    roots = list(extra_roots)
    if dry_run:
        collection = _Collection(repository, grace_s, limit, is_dry_run=True, reporter=reporter)
        return collection.run(roots, ignored_refs)
    repository.check_writable()
    # The mounts are looked at twice: should that take long in spite of all, nobody waits for the lock
    # in the meantime; and while the lock was waited for, others may have mounted something.
    find_live_mounts(repository.objects, repository.images.list_ids())
    with repository.lock.exclusive(lock_timeout_s):
        prepare(repository)
        return _Collection(repository, grace_s, limit, is_dry_run=False, reporter=reporter).run(roots)


def find_garbage(repository: Repository, note_dead: Callable[[list[DeadObject]], None]) -> GcResult:
    """Return what a collection would do; changes nothing.

    Args:
        repository: The repository, open.
        note_dead: Called with the objects that would go, those of one directory at a time.

    Raises:
        OSError: A directory cannot be read.
    """
    return _Collection(repository, 0, None, is_dry_run=True, note_dead=note_dead).run([])


def explain_object(
    repository: Repository, object_id: ObjectID, *, extra_roots: Iterable[str] = (), grace_s: float = 0
) -> Why:
    """Find out what keeps an object; changes nothing.

    Args:
        repository: The repository, open.
        object_id: The object.
        extra_roots: As for `collect_garbage`.
        grace_s: As for `collect_garbage`.

    Raises:
        ObjectMissingError: There is no such object.
        RefNotFoundError: An extra root that does not exist.
    """
    if not repository.objects.contains(object_id):
        raise StoredObjectMissingError(object_id)
    trail = ReachabilityPath(object_id)
    collection = _Collection(repository, grace_s, None, is_dry_run=True, trail=trail)
    result = collection.run(list(extra_roots))
    if trail.steps:
        return Why(object_id, trail.steps)
    if not result.is_complete:
        return Why(object_id, (), "; ".join(result.problems))
    if object_id in collection.young:
        return Why(object_id, (YOUNG, f"objects/{object_path(object_id)}"))
    return Why(object_id, ())


class _Pruned(NamedTuple):
    """Links of one category that go."""

    entries: list[str]
    refs: list[str]

    @property
    def total(self) -> int:
        return len(self.entries) + len(self.refs)


def _ignore(_dead: list[DeadObject]) -> None:
    """Need no list of what goes."""


class _Collection:
    """One collection."""

    def __init__(
        self,
        repository: Repository,
        grace_s: float,
        limit: DeleteLimit | None,
        *,
        is_dry_run: bool,
        note_dead: Callable[[list[DeadObject]], None] = _ignore,
        trail: ReachabilityPath | None = None,
        reporter: Reporter = silent,
    ) -> None:
        self._repository = repository
        self._cutoff_s = time.time() - grace_s if grace_s > 0 else None
        self._limit = limit
        self._is_dry_run = is_dry_run
        self._trail = trail
        self._report = reporter
        self._problems: list[str] = []
        self._kept = 0
        self._young_count = 0
        self.young: set[ObjectID] = set()
        self._note_dead = note_dead
        self.garbage = Garbage()
        self.live = LiveObjects()

    def run(self, extra_roots: list[str], ignored_refs: Collection[str] = ()) -> GcResult:
        """Mark, find what goes, and remove it unless this is a dry run."""
        marker = Marker(self._repository, self._trail, ignored_refs)
        marks, mounts = self._mark(marker, extra_roots)
        if marks.is_complete:
            self._find_dead(marker, marks)
        dead = self.garbage
        if self._limit is not None:
            self._limit.check(dead.count, self._kept)
        images = self._find_prunable(marker.images, marks)
        streams = self._find_prunable(marker.streams, marks)
        leftovers: list[str] = []
        if not self._is_dry_run:
            # Names first: if this is killed, objects without names remain, and never names without objects.
            _prune(marker.images, images)
            _prune(marker.streams, streams)
            if dead.count:
                self._remove(dead, marks)
            dirfd = self._repository.dirfd
            leftovers = find_leftovers(dirfd) + find_journals(dirfd)
            remove_leftovers(dirfd, leftovers)
        problems = (*marks.problems, *self._problems)
        return GcResult(
            is_dry_run=self._is_dry_run,
            objects_removed=dead.count,
            bytes_removed=dead.size,
            images_pruned=images.total,
            streams_pruned=streams.total,
            temporaries_removed=len(leftovers),
            problems=problems[:_MAX_PROBLEMS],
            is_complete=marks.is_complete,
            objects_kept=self._kept,
            objects_young=self._young_count,
            mounts=tuple(mounts),
        )

    def _mark(self, marker: Marker, extra_roots: list[str]) -> tuple[Marks, Sequence[LiveMount]]:
        """Mark all that refs, extra roots, mounts and the grace period keep; return the mounts, too."""
        self._report(Started(MARK_ID, None, Unit.ITEMS))
        for name in extra_roots:
            marker.add_root(name)
        look = find_live_mounts(self._repository.objects, marker.images.entries.values())
        for mount in look.mounts:
            marker.add_mount(mount)
        for gap in look.gaps:
            marker.marks.note_unseen(gap)
        if self._cutoff_s is not None:
            marker.add_young(self._cutoff_s)
        marker.marks.live = self.live
        marks = marker.run()
        self._report(Done(MARK_ID, len(marks.live)))
        return marks, look.mounts

    def _remove(self, dead: Garbage, marks: Marks) -> None:
        """Remove objects that no name leads to, and report progress."""
        total = dead.count
        self._report(Started(SWEEP_ID, total, Unit.ITEMS))
        known = dead.iter_known()
        if known is None:  # nobody else can have the repository open, so the same is found again
            found = self._make_sweep(marks).iter_garbage(lambda _: None, dead.fan_outs)
            known = ((one.fan_out, self._without_young(one.dead)) for one in found)
        remove_objects(
            self._repository.dirfd, known, lambda done: self._report(Advanced(SWEEP_ID, done, total))
        )
        self._report(Done(SWEEP_ID, total))

    def _note(self, problem: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(problem)

    def _find_dead(self, marker: Marker, marks: Marks) -> None:
        """Find the objects that go."""
        sweep = self._make_sweep(marks)
        if marker.has_lost_streams:
            self._keep_streams(marker, sweep)
        for fan_out, dead, live_count in sweep.iter_garbage(self._note):
            old = self._set_young_apart(dead, marker) if marks.is_complete else []
            self._kept += live_count + len(dead) - len(old)
            self.garbage.add(fan_out, old)
            self._note_dead(old)

    def _make_sweep(self, marks: Marks) -> Sweep:
        return Sweep(self._repository.dirfd, self._repository.algorithm, marks.live)

    def _without_young(self, dead: list[DeadObject]) -> list[DeadObject]:
        """Return what is not too young to go."""
        cutoff_s = self._cutoff_s
        return dead if cutoff_s is None else [item for item in dead if item.changed_s <= cutoff_s]

    def _set_young_apart(self, dead: list[DeadObject], marker: Marker) -> list[DeadObject]:
        """Return what is not too young to go; remember what is, as far as anybody asks for it."""
        old = self._without_young(dead)
        if len(old) < len(dead):
            self._young_count += len(dead) - len(old)
            young = {item.object_id for item in dead} - {item.object_id for item in old}
            self.young |= young & marker.named
            if self._trail is not None and self._trail.target in young:
                self.young.add(self._trail.target)
        return old

    def _keep_streams(self, marker: Marker, sweep: Sweep) -> None:
        """Keep every splitstream, since refs name streams that cannot be told among them any more."""
        for _, dead, _ in sweep.iter_garbage(lambda _: None):
            for item in dead:
                if marker.mark_stream_object(item.object_id):
                    self._note(f"objects/{item.fan_out}/{item.name}: kept, a lost ref may mean this stream")
        marker.complete()

    def _find_prunable(self, links: CategoryMarks, marks: Marks) -> _Pruned:
        """Return the links that lead nowhere, or in a real run will do so after the collection."""
        pruned = _Pruned(entries=[], refs=[ref.name for ref in links.misdirected])
        may_sweep = marks.is_complete and not self._is_dry_run
        staying = marks.live.find(links.entries.values()) | self.young if may_sweep else set()
        for entry, object_id in sorted(links.entries.items()):
            if entry in links.roots:
                continue
            is_going = may_sweep and object_id not in staying
            if is_going or not self._repository.objects.contains(object_id):
                pruned.entries.append(entry)
        return pruned


def _prune(links: CategoryMarks, pruned: _Pruned) -> None:
    if pruned.total:
        links.category.prune(pruned.entries, pruned.refs)
