"""The steps of one pull; see `cfsctl.ostree.pull.pull` for the guarantees."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from cfsctl.ostree.pull.fetch_objects import ObjectFetcher
from cfsctl.ostree.pull.find_bases import BaseFinder
from cfsctl.ostree.pull.get_commit import CommitGetter
from cfsctl.ostree.pull.journal import PullJournal
from cfsctl.ostree.pull.store_commit import CommitStorer
from cfsctl.repository.objects.space import needing

if TYPE_CHECKING:
    from cfsctl.ostree.pull.options import PullResult
    from cfsctl.ostree.pull.task import PullTask


def run_pull(task: PullTask) -> PullResult:
    """Find bases, get the commit, fetch what is missing of it, and store it."""
    bases = BaseFinder(task)
    getter = CommitGetter(task, bases)
    storer = CommitStorer(task, bases, getter)
    whole = getter.find_here()
    if whole is not None:
        return storer.keep(whole)
    journal = PullJournal(task.repository, task.checksum)
    try:
        fetcher = ObjectFetcher(task, bases, getter, journal)
        getter.use_journal(journal)
        _fetch(fetcher, storer, journal)
        result = storer.store(fetcher, journal)
        journal.remove()
        return result
    finally:
        journal.close()
        task.plan.close()


def _fetch(fetcher: ObjectFetcher, storer: CommitStorer, journal: PullJournal) -> None:
    """Fetch what is missing; what has arrived before an error is kept for the next pull."""
    try:
        with needing(fetcher.count_missing_bytes):
            fetcher.use_delta()
            fetcher.fetch()
    except BaseException as error:
        import traceback

        # The frames hold what was being worked on, which may be large; it has been written down.
        traceback.clear_frames(error.__traceback__)
        with contextlib.suppress(OSError):
            journal.refresh()
        storer.keep_partial(fetcher, journal)
        raise
