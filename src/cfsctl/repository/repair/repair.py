"""Repair a repository: restore damaged and missing objects, and correct links whose target is certain.

    check ─▶ damaged objects go into quarantine ┐
      ▲      missing and damaged ones are       │ each verified by its digest, replaced by one rename
      │      restored from the sources          ┘
      │      links are set right ◀── a restored image or stream may show that more is missing
      └───── streams that still cannot be read are put in again, as far as a source has them

Guarantees: nothing is deleted (see `cfsctl.repository.objects.quarantine`), undamaged data is not changed,
and a killed repair does not make anything worse. The repair holds the exclusive lock.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import DigestFormatError, object_path, parse_object_id, parse_object_path, qualified
from cfsctl.errors import CfsError
from cfsctl.progress import Message, silent
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.names.names import find_entry_in, find_object_in, object_link_text, ref_link_text
from cfsctl.repository.objects.quarantine import QUARANTINE, Quarantine
from cfsctl.repository.objects.reader import to_doubtful
from cfsctl.repository.objects.verified import forget_verified
from cfsctl.repository.repair.sources import TreeSource

if TYPE_CHECKING:
    import os
    from collections.abc import Iterable, Iterator, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository.check.links import ContentChecks
    from cfsctl.repository.check.report import FsckReport, Tally
    from cfsctl.repository.names.links import Found, LinkDirectory
    from cfsctl.repository.repair.sources import RepairSource
    from cfsctl.repository.repository import Repository

_MAX_ROUNDS: Final = 100
"""A stream names a stream names a stream ...: each round restores one more of a chain of lost ones."""


class RepairReport(NamedTuple):
    """What a repair did.

    Attributes:
        before: What was found.
        after: What is left.
        restored: Objects that are sound again, each with the place it came from.
        quarantined: Paths below ``objects`` of what was put into quarantine.
        relinked: Links that were corrected.
        lost: Objects that are missing, and that no source has.
        streams: Names of streams that were put in again, each with the place it came from.
    """

    before: FsckReport
    after: FsckReport
    restored: dict[ObjectID, str]
    quarantined: list[str]
    relinked: list[str]
    lost: list[ObjectID]
    streams: dict[str, str]

    def lines(self) -> list[str]:
        """Return what was done and what is left as text."""
        lines = [f"quarantined: objects/{path}" for path in self.quarantined]
        lines += [
            f"restored: objects/{object_path(object_id)} from {place}"
            for object_id, place in sorted(self.restored.items())
        ]
        lines += [f"restored: streams/{name} from {place}" for name, place in sorted(self.streams.items())]
        lines += [f"relinked: {path}" for path in self.relinked]
        lines += [f"lost: objects/{object_path(object_id)}" for object_id in self.lost]
        return [*lines, *self.after.lines()]

    def as_dict(self) -> dict[str, object]:
        """Return the same as it is printed in JSON: the keys of a check, of what is left, and more."""
        return {
            **self.after.as_dict(),
            "errors_before": self.before.findings,
            "quarantined": self.quarantined,
            "restored": [
                {"object": qualified(object_id), "source": place}
                for object_id, place in sorted(self.restored.items())
            ],
            "streams_restored": [
                {"stream": name, "source": place} for name, place in sorted(self.streams.items())
            ],
            "relinked": self.relinked,
            "lost": [qualified(object_id) for object_id in self.lost],
        }


def repair_repository(
    repository: Repository,
    sources: Sequence[RepairSource] = (),
    *,
    lock_timeout_s: float | None = None,
    workers: int | None = None,
    content_checks: ContentChecks | None = None,
    reporter: Reporter = silent,
) -> RepairReport:
    """Check a repository in depth, and repair what can be repaired.

    Args:
        repository: The repository, open.
        sources: Where to look for objects, in this order; borrowed.
        lock_timeout_s: Longest time to wait for the exclusive lock; None waits forever.
        workers: As for `check_repository`.
        content_checks: As for `check_repository`.
        reporter: Told about what takes long.

    Raises:
        NotWritableError: The repository cannot be written to.
        LockedError: The timeout expired.
        CheckFailedError: A directory cannot be read.
        OSError: Something could not be written; what was repaired so far stays.
    """
    repository.check_writable()
    with repository.lock.exclusive(lock_timeout_s):
        return _Repair(repository, sources, workers, content_checks, reporter).run()


class _Distrust:
    """Has every object read before it counts as present."""

    def needs_reading(self, _object_id: ObjectID, _status: os.stat_result, /) -> bool:
        return True

    def find_sizes(self, found: Iterable[tuple[ObjectID, os.stat_result | None]], /) -> array[int]:
        return array("q", [-1 if status is None else to_doubtful(status.st_size) for _, status in found])

    def confirm(self, _object_id: ObjectID, _status: os.stat_result, /) -> None:
        pass

    def drain_new(self) -> array[int]:
        return array("Q")

    def add_new(self, _news: Iterable[int], /) -> None:
        pass


class _Repair:
    """One repair."""

    def __init__(
        self,
        repository: Repository,
        sources: Sequence[RepairSource],
        workers: int | None,
        content_checks: ContentChecks | None,
        reporter: Reporter,
    ) -> None:
        self._repository = repository
        self._objects = repository.objects
        self._sources = sources
        self._workers = workers
        self._content_checks = content_checks
        self._report = reporter
        self._restored: dict[ObjectID, str] = {}
        self._quarantined: list[str] = []
        self._relinked: list[str] = []
        self._lost: set[ObjectID] = set()
        self._streams: dict[str, str] = {}
        self._asked: set[str] = set()

    def run(self) -> RepairReport:
        before = self._check(metadata_only=False)
        if before.is_ok:
            return RepairReport(
                before=before, after=before, restored={}, quarantined=[], relinked=[], lost=[], streams={}
            )
        # It may have said of the damaged ones that they were sound.
        forget_verified(self._repository.dirfd)
        trusting, self._objects.verifier = self._objects.verifier, _Distrust()
        try:
            left = self._repair(before.tally)
            while self._restore_streams(left.unreadable_streams):
                left = self._repair_missing()
        finally:
            self._objects.verifier = trusting
        self._repository.sync()
        return RepairReport(
            before=before,
            after=self._check(metadata_only=False),
            restored=self._restored,
            quarantined=self._quarantined,
            relinked=sorted(set(self._relinked)),
            lost=sorted(object_id for object_id in self._lost if not self._objects.contains(object_id)),
            streams=self._streams,
        )

    def _check(self, *, metadata_only: bool) -> FsckReport:
        return check_repository(
            self._repository,
            metadata_only=metadata_only,
            deep=True,
            workers=self._workers,
            content_checks=self._content_checks,
            reporter=self._report,
        )

    def _repair(self, tally: Tally) -> Tally:
        damaged = self._quarantine(sorted(tally.damaged))
        self._restore(tally.missing | damaged)
        self._remove_unrestored(damaged)
        return self._repair_missing()

    def _repair_missing(self) -> Tally:
        """Set links right and restore what is missing, until nothing more can be; return what is left."""
        for _ in range(_MAX_ROUNDS):
            missing = set(self._relink())
            left = self._check(metadata_only=True).tally
            missing |= left.missing
            if not missing - self._lost:
                return left
            self._restore(missing - self._lost)
        return self._check(metadata_only=True).tally

    def _quarantine(self, paths: list[str]) -> set[ObjectID]:
        """Move all damaged files to the quarantine; return the objects whose file still exists."""
        in_place: set[ObjectID] = set()
        with Quarantine(self._repository.dirfd) as quarantine:
            for path in paths:
                try:
                    object_id = parse_object_path(path, self._repository.algorithm)
                except DigestFormatError:
                    object_id = None
                quarantine.keep(path, move=object_id is None)
                self._quarantined.append(path)
                if object_id is not None:
                    in_place.add(object_id)
        return in_place

    def _remove_unrestored(self, object_ids: set[ObjectID]) -> None:
        """Remove damaged objects that could not be replaced, so that the next pull fetches them again."""
        for object_id in object_ids - self._restored.keys():
            if self._objects.contains(object_id):
                self._objects.remove(object_id)

    def _restore(self, wanted: set[ObjectID]) -> None:
        left = set(wanted)
        for source in self._all_sources():
            if not left:
                break
            if source.description != QUARANTINE:
                what = f"{len(left)} objects" if len(left) > 1 else "one object"
                self._report(Message(f"looking for {what} in {source.description}"))
            for object_id in source.restore(frozenset(left), self._objects):
                self._restored[object_id] = source.description
                left.discard(object_id)
        self._lost |= left
        self._repository.sync()

    def _restore_streams(self, unreadable: set[str]) -> bool:
        """Restore unreadable streams, asking the sources once for each; return whether any was restored."""
        names = sorted(unreadable - self._asked)
        self._asked.update(names)
        restored = [name for name in names if self._restore_stream(name)]
        return bool(restored)

    def _restore_stream(self, name: str) -> bool:
        old = self._find_object_of(name)
        for source in self._sources:
            if source.restore_stream(name, self._repository):
                self._streams[name] = source.description
                if old is not None and self._find_object_of(name) != old:
                    self._lost.discard(old)  # nothing names it any more
                return True
        return False

    def _find_object_of(self, name: str) -> ObjectID | None:
        try:
            return self._repository.streams.find(name)
        except CfsError:
            return None

    def _all_sources(self) -> Iterator[RepairSource]:
        yield from self._sources
        # A file with a wrong name, or without fs-verity, has undamaged content.
        try:
            quarantine = TreeSource(QUARANTINE, self._repository.dirfd)
        except FileNotFoundError:
            return
        try:
            yield quarantine
        finally:
            quarantine.close()

    # Links

    def _relink(self) -> Iterator[ObjectID]:
        """Set links right; yield objects that images without an entry would need."""
        for category in (self._repository.images.links, self._repository.streams.links):
            for found in list(category.iter_entries()):
                self._relink_entry(category, found)
            for found in list(category.iter_refs_tree()):
                yield from self._relink_ref(category, found)

    def _relink_entry(self, category: LinkDirectory, found: Found) -> None:
        if found.text is None:
            return
        object_id = self._find_meaning(category, found.path, found.text)
        if object_id is None or found.text == object_link_text(object_id):
            return
        if self._objects.contains(object_id):
            category.set_entry(found.path, object_id)
            self._relinked.append(f"{category.name}/{found.path}")

    def _find_meaning(self, category: LinkDirectory, name: str, text: str) -> ObjectID | None:
        """Return the object that an entry must lead to: an image's name says it, else the end of its text."""
        if category is self._repository.images.links:
            return self._parse_id(name)
        return find_object_in(text, self._repository.algorithm)

    def _parse_id(self, text: str) -> ObjectID | None:
        try:
            return parse_object_id(text, self._repository.algorithm)
        except DigestFormatError:
            return None

    def _relink_ref(self, category: LinkDirectory, found: Found) -> Iterator[ObjectID]:
        entry = None if found.text is None else find_entry_in(found.text)
        if found.text is None or entry is None:
            return
        if category.read_entry(entry) is None:
            # The entry of an image can be made again, as its name says all there is to it.
            object_id = self._parse_id(entry) if category is self._repository.images.links else None
            if object_id is None:
                return
            if not self._objects.contains(object_id):
                yield object_id
                return
            category.set_entry(entry, object_id)
            self._relinked.append(f"{category.name}/{entry}")
        try:
            if found.text != ref_link_text(found.path, entry):
                category.set_ref(found.path, entry)
                self._relinked.append(f"{category.name}/refs/{found.path}")
        except CfsError:
            return  # a name that no ref may have
