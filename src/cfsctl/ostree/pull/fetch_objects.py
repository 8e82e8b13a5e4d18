"""Third step of a pull: make objects by a delta, and fetch the rest."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final

from cfsctl import heartbeat
from cfsctl.errors import ObjectMissingError
from cfsctl.ostree.pull.fetch import FileWorkers
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store.commitmeta import check_detached, store_detached
from cfsctl.progress import Advanced, Done, Started, Unit

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.use import DeltaStats
    from cfsctl.ostree.objects import ObjectKind
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.ostree.pull.fetch import Batch
    from cfsctl.ostree.pull.find_bases import BaseFinder
    from cfsctl.ostree.pull.get_commit import CommitGetter
    from cfsctl.ostree.pull.journal import PullJournal
    from cfsctl.ostree.pull.task import PullTask
    from cfsctl.progress import Event

METADATA_ID: Final = "metadata"
"""Names the progress of commit, dirtrees and dirmetas."""

FILES_ID: Final = "files"
"""Names the progress of content objects."""

_REPORT_INTERVAL_S: Final = 0.2
"""Between two reports while no batch is done."""

RESCUE_TIMEOUT_S: Final = 5.0
"""After an error: how long to wait for content that is in work, so that it need not be fetched again."""


class ObjectFetcher:
    """Brings the plan to its end.

    Attributes:
        delta_use: What was had of a delta, or None.
        delta_objects: What the delta has made.
        received_bytes: Size of all that was fetched, as it came.
        stored_objects: Content that was new in the repository.
        stored_bytes: Size of that.
    """

    def __init__(self, task: PullTask, bases: BaseFinder, getter: CommitGetter, journal: PullJournal) -> None:
        """Fetch nothing yet; what arrives is written to the journal."""
        self.delta_use: DeltaStats | None = None
        self.delta_objects: dict[Checksum, StoredContent] = {}
        self.received_bytes = self.stored_objects = self.stored_bytes = 0
        self._task = task
        self._bases = bases
        self._getter = getter
        self._journal = journal

    def use_delta(self) -> None:
        """Make as many objects as possible with a delta, if one is cheaper than fetching them."""
        deltas = self._task.usable_deltas
        if deltas is None:
            return
        with contextlib.closing(self._getter.open_deltas(deltas)) as delta:
            self.delta_objects = delta.made.objects
            candidate = self._getter.choose_delta(delta)
            for checksum, entry in delta.made.objects.items():
                self._journal.append(checksum, *entry)  # The commit, whether or not the delta is used.
            if candidate is not None:
                workers, beside = self._task.options.workers, self._task.preparation
                self.delta_use = delta.run(
                    self._task.plan,
                    candidate,
                    workers,
                    self._journal.append,
                    beside.step if beside.has_more else None,
                )

    def fetch(self) -> None:
        """Fetch what is missing."""
        task = self._task
        task.source.close()  # Nothing of this process' connections may be shared with the workers.
        with FileWorkers(
            task.source,
            task.repository.objects,
            task.options.workers,
            self._journal.extend,
            self._report_arriving,
            task.source.measure_files if isinstance(task.source, LocalSource) else None,
        ) as workers:
            try:
                self._fetch_all(workers)
            except BaseException as error:
                # Who interrupts does not wait; what workers have noted by then is kept all the same.
                may_wait = isinstance(error, Exception) and not heartbeat.is_ended()
                self._take(workers.rescue(RESCUE_TIMEOUT_S if may_wait else 0.0))
                if isinstance(error, ObjectMissingError):
                    error.hint = task.source.explain_missing(task.checksum) or error.hint
                raise
        task.plan.check_complete()

    def count_missing_bytes(self, _error: OSError) -> int | None:
        """Return how much of the commit's content is not stored yet, if the commit says how large it is."""
        plan = self._task.plan
        if plan.commit is None or self._task.is_partial:
            return None
        from cfsctl.ostree.delta.choice import estimate_objects  # only where the disk is full

        found = estimate_objects(plan.commit, plan.is_in_base)
        return None if found is None else max(0, found.plain_bytes - self.stored_bytes)

    def _fetch_all(self, workers: FileWorkers) -> None:
        verifier, plan = self._getter.verifier, self._task.plan
        detached = verifier.find_detached()
        self._task.report(Started(FILES_ID, None, Unit.ITEMS))  # some arrive while metadata does
        self._fetch_metadata(workers)
        if verifier.proof is not None:
            detached = verifier.proof
        if detached is not None:
            check_detached(self._task.checksum, detached)
            self._getter.detached = store_detached(self._task.repository, detached)
        plan.check_tree()
        workers.begin()
        self._replace_damaged(workers)
        workers.begin()
        while not workers.is_idle:
            is_busy = self._task.preparation.step()
            self._take(workers.poll(0 if is_busy else _REPORT_INTERVAL_S))
            if not is_busy and not workers.is_idle:
                self._report_arriving(workers.arriving_bytes)
        self._task.report(Done(FILES_ID, plan.counts.files))

    def _report_arriving(self, size_bytes: int) -> None:
        """Report what has come of batches in work, in which a large file may take minutes."""
        if size_bytes:
            counts, size_bytes = self._task.plan.counts, self.received_bytes + size_bytes
            self._task.report(Advanced(FILES_ID, counts.files, counts.wanted_files, size_bytes))

    def _replace_damaged(self, workers: FileWorkers) -> None:
        """Verify unverified objects of bases; fetch damaged files again."""

        def report(event: Event) -> None:
            self._task.report(event)
            self._take(workers.poll(0))

        damaged = self._bases.stored.find_damaged(report)
        if damaged:
            self._task.plan.take_back(damaged)
            workers.add(self._task.plan.take_files())

    def _fetch_metadata(self, workers: FileWorkers) -> None:
        plan, report, journal = self._task.plan, self._task.report, self._journal

        def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
            plan.deliver(checksum, kind, data)
            self._getter.accept_delivered(data)
            journal.append(checksum, data, None)  # What is refused is not kept.
            workers.add(plan.take_files())
            self._take(workers.poll(0))
            report(Advanced(METADATA_ID, plan.counts.metadata, None))

        def keeps_up() -> bool:
            """Return whether workers need more; what is wanted from here on could be anything."""
            workers.add(plan.take_files())
            return not workers.is_behind

        report(Started(METADATA_ID, None, Unit.ITEMS))
        while plan.has_wanted_metadata:
            self._task.source.fetch_metadata(
                lambda: plan.next_request(keeps_up) if keeps_up() else None, deliver
            )
            while workers.is_behind:
                self._take(workers.poll())
        workers.add(plan.take_files())
        report(Done(METADATA_ID, plan.counts.metadata))

    def _take(self, batches: list[Batch]) -> None:
        plan = self._task.plan
        for batch in batches:
            plan.deliver_files(batch.files)
            self.received_bytes += batch.received_bytes
            self.stored_objects += batch.stored_objects
            self.stored_bytes += batch.stored_bytes
        if batches:
            counts = plan.counts
            self._task.report(Advanced(FILES_ID, counts.files, counts.wanted_files, self.received_bytes))
