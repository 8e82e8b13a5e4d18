"""Collect garbage: remove every object that no ref leads to.

What is promised, also to whoever kills it at any point:

* While objects are removed nobody else has the repository open.
* Names go before objects, and are gone from the disk before the first object is. So a name that is there
  leads to a complete set of objects, and what a killed collection leaves is more garbage, nothing else.
* What is not understood stays: foreign files are reported and left alone, and if something in use
  cannot be read, no object is removed at all (see `cfsctl.repository.mark`).

A dry run holds the shared lock only and changes nothing. As the original's, it counts objects as they
would go, but only those links that lead nowhere already.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.repository.mark import Marker
from cfsctl.repository.sweep import find_dead_objects, find_leftovers, remove_objects

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.repository.mark import CategoryMarks, Marks
    from cfsctl.repository.repository import Repository
    from cfsctl.repository.sweep import DeadObject

_MAX_PROBLEMS: Final = 1000
"""Problems that are kept; a directory of a million foreign files must not fill the memory."""


class GcResult(NamedTuple):
    """What a collection did, or would do.

    Attributes:
        is_dry_run: Whether nothing was changed.
        objects_removed: Objects that went.
        bytes_removed: Their sizes.
        images_pruned: Links below ``images`` that went.
        streams_pruned: Links below ``streams`` that went.
        temporaries_removed: Leftovers of processes that were killed.
        problems: What was met that should not be there, one sentence each.
        is_complete: False if something in use could not be read, so that nothing was removed.
    """

    is_dry_run: bool
    objects_removed: int = 0
    bytes_removed: int = 0
    images_pruned: int = 0
    streams_pruned: int = 0
    temporaries_removed: int = 0
    problems: tuple[str, ...] = ()
    is_complete: bool = True

    def lines(self) -> list[str]:
        """Return the result as the original prints it."""
        lines = ["Dry run (no files deleted):"] if self.is_dry_run else []
        lines.append(f"Objects: {self.objects_removed} removed ({self.bytes_removed} bytes)")
        if self.images_pruned or self.streams_pruned:
            lines.append(f"Pruned symlinks: {self.images_pruned} images, {self.streams_pruned} streams")
        return lines


def collect_garbage(
    repository: Repository,
    *,
    extra_roots: Iterable[str] = (),
    dry_run: bool = False,
    lock_timeout_s: float | None = None,
) -> GcResult:
    """Remove what no ref and no extra root leads to.

    Args:
        repository: The repository, open.
        extra_roots: Further images and streams to keep, by any of their names.
        dry_run: Count only.
        lock_timeout_s: Longest time to wait until nobody else has the repository open; None waits for
            ever.

    Raises:
        NotWritableError: The repository cannot be written to; not in a dry run.
        RefNotFoundError: An extra root that does not exist; nothing was removed.
        LockedError: The time is up.
        OSError: A directory cannot be read or changed; some garbage may be gone.
    """
    roots = list(extra_roots)
    if dry_run:
        return _Collection(repository, is_dry_run=True).run(roots)
    repository.check_writable()
    with repository.lock.exclusive(lock_timeout_s):
        return _Collection(repository, is_dry_run=False).run(roots)


class _Pruned(NamedTuple):
    """Links of one category that go."""

    entries: list[str]
    refs: list[str]

    @property
    def total(self) -> int:
        return len(self.entries) + len(self.refs)


class _Collection:
    """One collection."""

    def __init__(self, repository: Repository, *, is_dry_run: bool) -> None:
        self._repository = repository
        self._is_dry_run = is_dry_run
        self._problems: list[str] = []

    def run(self, extra_roots: list[str]) -> GcResult:
        marker = Marker(self._repository)
        for name in extra_roots:
            marker.add_root(name)
        marks = marker.run()
        dead = self._find_dead(marks) if marks.is_complete else []
        if dead and marker.has_lost_streams:
            dead = self._keep_streams(marker, dead)
        images = self._find_prunable(marker.images, marks)
        streams = self._find_prunable(marker.streams, marks)
        leftovers: list[str] = []
        if not self._is_dry_run:
            _prune(marker.images, images)
            _prune(marker.streams, streams)
            if dead:
                remove_objects(self._repository.dirfd, dead)
            leftovers = find_leftovers(self._repository.dirfd)
            for path in leftovers:
                os.unlink(path, dir_fd=self._repository.dirfd)
        problems = (*marks.problems, *self._problems)
        return GcResult(
            self._is_dry_run,
            len(dead),
            sum(item.size for item in dead),
            images.total,
            streams.total,
            len(leftovers),
            problems[:_MAX_PROBLEMS],
            marks.is_complete,
        )

    def _note(self, problem: str) -> None:
        if len(self._problems) < _MAX_PROBLEMS:
            self._problems.append(problem)

    def _find_dead(self, marks: Marks) -> list[DeadObject]:
        repository = self._repository
        return find_dead_objects(repository.dirfd, repository.algorithm, marks.live, self._note)

    def _keep_streams(self, marker: Marker, dead: list[DeadObject]) -> list[DeadObject]:
        """Keep every splitstream, since refs name streams that cannot be told among them any more."""
        for item in dead:
            if marker.mark_stream_object(item.object_id):
                self._note(f"objects/{item.fan_out}/{item.name}: kept, a lost ref may mean this stream")
        if not marker.marks.is_complete:
            return []
        return [item for item in dead if item.object_id not in marker.marks.live]

    def _find_prunable(self, links: CategoryMarks, marks: Marks) -> _Pruned:
        """Return the links that lead nowhere, or in a real run will do so after the collection."""
        pruned = _Pruned(entries=[], refs=[ref.name for ref in links.misdirected])
        may_sweep = marks.is_complete and not self._is_dry_run
        for entry, object_id in sorted(links.entries.items()):
            if entry in links.roots:
                continue
            is_going = may_sweep and object_id not in marks.live
            if is_going or not self._repository.objects.contains(object_id):
                pruned.entries.append(entry)
        return pruned


def _prune(links: CategoryMarks, pruned: _Pruned) -> None:
    if pruned.total:
        links.category.prune(pruned.entries, pruned.refs)
