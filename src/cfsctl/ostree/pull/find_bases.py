"""First step of a pull: find stored commits whose objects need not be fetched."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.pull.bases import BaseCommits
from cfsctl.ostree.store.partial_tags import find_part_tag
from cfsctl.ostree.store.refs import find_tag, resolve_source

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.pull.bases import Journal
    from cfsctl.ostree.pull.task import PullTask
    from cfsctl.ostree.store.commit_stream import CommitStream


class BaseFinder:
    """Finds bases, and offers them to the plan.

    Attributes:
        stored: The stored commits that were looked at.
        partial: What an earlier pull has left of the commit itself, or None.
    """

    def __init__(self, task: PullTask, *, defers_look: bool = True) -> None:
        """Prepare; nothing is read yet. `BaseCommits.find_damaged` is called if looks are deferred."""
        self.stored = BaseCommits(task.repository, task.report, defers_look=defers_look, streams=task.streams)
        self.partial: CommitStream | None = None
        self._task = task
        self._has_other = False

    def open_named(self) -> CommitStream | None:
        """Return the base that the user has named, or None.

        Raises:
            CommitNotFoundError: There is no such commit.
        """
        name = self._task.options.base_name
        if name is None:
            return None
        return self.stored.open_named(resolve_source(self._task.repository, name))

    def open_partial(self) -> CommitStream | None:
        """Return what an earlier pull has left of the commit, or None."""
        self.partial = self.stored.open_partial(self._task.checksum)
        return self.partial

    def find_tagged(self) -> Checksum | None:
        """Return the commit that the tag names, whole or in part, or None."""
        repository, tag = self._task.repository, self._task.tag
        return None if tag is None else find_tag(repository, tag) or find_part_tag(repository, tag)

    def iter_related(
        self, commit: Commit, tagged: Checksum | None, *, with_parent: bool
    ) -> Iterator[CommitStream]:
        """Yield what is stored of the commit that the tag names, and of the parent."""
        for checksum in dict.fromkeys((tagged, commit.parent if with_parent else None)):
            if checksum is None or checksum == self._task.checksum:
                continue
            stream = self.open(checksum)
            if stream is not None:
                yield stream

    def open(self, checksum: Checksum) -> CommitStream | None:
        """Return what is stored of a commit, whole or in part, or None."""
        return self.stored.open(checksum) or self.stored.open_partial(checksum)

    def add(self, stored: CommitStream | Journal) -> None:
        """Take objects from what is stored of the commit itself."""
        base = self.stored.as_base(stored)
        self._task.plan.add_base(base)
        if base.lender is not None:
            self._task.preparation.offer(base.lender, len(base.lender))

    def add_other(self, stream: CommitStream) -> None:
        """Take objects from another commit as well."""
        if not self._task.options.from_scratch:
            self._has_other = True
            self.add(stream)

    def add_also(self) -> None:
        """Take objects from the further commits that the options name."""
        for other in reversed(self._task.options.also_bases):
            if other != self._task.checksum and (stream := self.stored.open(other)) is not None:
                self.add_other(stream)

    def add_similar(self, commit: Commit) -> None:
        """Take objects from commits of other tags, if no better base is known."""
        options = self._task.options
        if self._has_other or options.from_scratch or options.base_name is not None:
            return
        from cfsctl.ostree.pull.similar_commits import find_similar  # most pulls know a base
        from cfsctl.ostree.sources.local import LocalSource

        # What is read from a disk anyway is not worth a look through commits that may be of no use.
        by_name = not isinstance(self._task.source, LocalSource)
        found = find_similar(
            self._task.repository, commit, self._task.checksum, self._task.tag, by_name=by_name
        )
        for checksum in found:
            stream = self.stored.open(checksum)
            if stream is not None:
                self.add_other(stream)

    def has_other(self) -> bool:
        """Return whether another stored commit can serve as a base, as far as known."""
        if self._has_other:
            return True
        tag = self._task.tag
        previous = None if tag is None else find_tag(self._task.repository, tag)
        return previous is not None and self.stored.open(previous) is not None
