"""Checking, repairing, measuring, collecting and copying a repository."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.library.events import cancellable, make_reporter
from cfsctl.library.ids import ObjectID
from cfsctl.library.opened import OpenedRepository, moving, store_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cfsctl.kinds.fetching import FetchedStream
    from cfsctl.kinds.kind import NamedCopy
    from cfsctl.kinds.kind import Remarks as Remarks  # noqa: PLC0414 - exported from here
    from cfsctl.library.events import Progress
    from cfsctl.library.paths import StrPath
    from cfsctl.library.pruning import PruneOptions, PruneResult
    from cfsctl.library.sources import SourceOptions
    from cfsctl.repository.check.report import FsckReport
    from cfsctl.repository.gc.mounted import MountList
    from cfsctl.repository.gc.results import DeleteLimit, GcResult, Why
    from cfsctl.repository.gc.stats import Stats
    from cfsctl.repository.repair.repair import RepairReport


class MaintenanceMethods(OpenedRepository):
    """What is done with the repository as a whole."""

    @cancellable
    def gc(
        self,
        *,
        extra_roots: Iterable[str] = (),
        dry_run: bool = False,
        grace_s: float = 0,
        max_delete: int | DeleteLimit | None = None,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> GcResult:
        """Remove every object that neither a ref, nor a mount, nor an extra root leads to.

        Args:
            extra_roots: Further images and streams to keep, by any of their names.
            dry_run: Count only.
            grace_s: Keep garbage that is younger than this, in seconds.
            max_delete: Remove nothing if more objects than this are garbage, or a larger part of all objects.
            lock_timeout_s: Longest time to wait for the exclusive lock; None waits forever.
            progress: Told what is looked through and removed. If it raises, the collection ends there; names
                go before objects, so every name still leads to a whole tree.

        Raises:
            RefNotFoundError: An extra root that does not exist.
            RepositoryError: Too much is garbage, or nothing may be written.
            LockedError: The timeout expired.
        """
        from cfsctl.kinds.registry import prepare_collection
        from cfsctl.repository.gc.collect import collect_garbage
        from cfsctl.repository.gc.results import DeleteLimit

        limit = DeleteLimit(max_delete, is_percentage=False) if isinstance(max_delete, int) else max_delete
        return collect_garbage(
            self._store,
            extra_roots=extra_roots,
            dry_run=dry_run,
            grace_s=grace_s,
            limit=limit,
            lock_timeout_s=lock_timeout_s,
            prepare=prepare_collection,
            reporter=make_reporter(progress),
        )

    def prune(
        self,
        options: PruneOptions,
        *,
        dry_run: bool = False,
        gc: bool = False,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> PruneResult:
        """Remove tags and earlier targets of tags that no rule keeps, unless they are mounted or deployed.

        Args:
            options: What may go, and what stays.
            dry_run: Change nothing.
            gc: Collect garbage afterwards; in a dry run, count what that would remove.
            lock_timeout_s: Longest time to wait for the exclusive lock; None waits forever.
            progress: Told what a collection looks through and removes.

        Raises:
            RefNotFoundError: There is nothing of a name that was given without a pattern.
            RepositoryError: Nothing may be written.
            LockedError: The timeout expired.
        """
        from cfsctl.library import pruning
        from cfsctl.repository.gc.collect import collect_garbage

        problems: list[str] = []
        collected = None
        if dry_run:
            decisions = pruning.decide(self._store, options, problems.append)
            if gc:
                ignored = {one.path() for one in decisions if not one.stays}
                report = make_reporter(progress)
                collected = collect_garbage(self._store, dry_run=True, ignored_refs=ignored, reporter=report)
        else:
            self._store.check_writable()
            with self._store.lock.exclusive(lock_timeout_s):
                decisions = pruning.decide(self._store, options, problems.append)
                pruning.remove(self._store, (one for one in decisions if not one.stays))
            if gc:
                collected = self.gc(lock_timeout_s=lock_timeout_s, progress=progress)
        return pruning.PruneResult(
            is_dry_run=dry_run, decisions=decisions, problems=list(dict.fromkeys(problems)), gc=collected
        )

    def explain_object(
        self, name: str | ObjectID, *, extra_roots: Iterable[str] = (), grace_s: float = 0
    ) -> Why:
        """Find out what keeps an object from being collected; nothing is changed.

        Args:
            name: The object: its ID or a prefix of it, also with the algorithm before it; or a path.
            extra_roots: As for `gc`.
            grace_s: As for `gc`.

        Raises:
            ObjectMissingError: There is no such object.
            AmbiguousIdError: It is a prefix of more than one ID.
            RefNotFoundError: An extra root that does not exist.
        """
        from cfsctl.library.short_ids import find_object
        from cfsctl.repository.gc.collect import explain_object

        object_id = find_object(self._store, name) if isinstance(name, str) else name
        why = explain_object(self._store, object_id, extra_roots=extra_roots, grace_s=grace_s)
        return why._replace(object_id=ObjectID(why.object_id))

    def mounts(self) -> MountList:
        """Return what is mounted from the repository at this moment, by the kernel and by FUSE."""
        from cfsctl.repository.gc.mounted import list_mounts

        return list_mounts(self._store)

    def stats(self) -> Stats:
        """Return how large the repository is, what each ref needs, and what a collection would free."""
        from cfsctl.repository.gc.stats import measure_repository

        return measure_repository(self._store)

    @cancellable
    def fsck(
        self, *, metadata_only: bool = False, deep: bool = False, progress: Progress | None = None
    ) -> FsckReport:
        """Check that the repository is complete and undamaged, without changing anything.

        Args:
            metadata_only: Leave the content of objects alone.
            deep: Read and decode everything, even what fs-verity protects.
            progress: Told how many parts have been checked.
        """
        from cfsctl.repository.check.fsck import check_repository

        checks = None
        if not metadata_only:
            from cfsctl.kinds.checks import content_checks

            checks = content_checks(self._store, is_deep=deep)
        return check_repository(
            self._store,
            metadata_only=metadata_only,
            deep=deep,
            content_checks=checks,
            reporter=make_reporter(progress),
        )

    @cancellable
    def repair(
        self,
        sources: Sequence[StrPath] = (),
        *,
        remotes: str | None = None,
        lock_timeout_s: float | None = None,
        progress: Progress | None = None,
    ) -> RepairReport:
        """Check in depth, quarantine damaged objects, restore what a source has, and fix links.

        Args:
            sources: Where to look for what is lost, in this order: another composefs repository, an OSTree
                repository, also by its URL or as the name of a configured remote, or any directory.
            remotes: Directory where remotes are configured; None is ``/etc/ostree/remotes.d``.
            lock_timeout_s: Longest time to wait for the exclusive lock; None waits forever.
            progress: Told what is checked.

        Raises:
            RepositoryError: Nothing may be written.
            LockedError: The timeout expired.
            CfsError: A source cannot be opened.
        """
        from cfsctl.library.repairing import repair

        report = make_reporter(progress)
        done = repair(self._store, [os.fspath(one) for one in sources], remotes, lock_timeout_s, report)
        return done._replace(
            restored={ObjectID(object_id): place for object_id, place in done.restored.items()},
            lost=[ObjectID(object_id) for object_id in done.lost],
        )

    def remarks(self) -> Remarks:
        """Return remarks about single kinds of streams, such as partial commits."""
        from cfsctl.kinds.registry import find_remarks

        return find_remarks(self._store)

    @cancellable
    def fetch(
        self,
        url: str,
        name: str,
        ref: str | None = None,
        options: SourceOptions | None = None,
        *,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> FetchedStream:
        """Fetch a stream from a composefs repository whose files a web server has, with everything it needs.

        Every object is compared with its ID, and every layer and document of an OCI image with its digest;
        the file system images of an OCI image are rebuilt.

        Args:
            url: The root of the repository.
            name: A content identifier, or ``refs/`` and a ref.
            ref: The ref, or the tag of an OCI image, to move to it; None is the one that `name` is, if any.
            options: How the server is reached.
            keep: Number of earlier streams of the ref to keep; None leaves its history as it is.
            progress: Told how many objects have been fetched, and what had the ref before.

        Raises:
            FetchError: The server lacks something, or does not answer as it should.
            IntegrityError: Something is not what its name says; nothing was named.
        """
        from dataclasses import replace

        from cfsctl.kinds.fetching import fetch_by_name
        from cfsctl.library.sources import DEFAULT_SOURCE_OPTIONS, open_plain_fetcher
        from cfsctl.repository.served import ServedRepository

        fetcher = open_plain_fetcher(url, options or DEFAULT_SOURCE_OPTIONS)
        try:
            served = ServedRepository(url, fetcher)
            with moving(self, progress, keep=keep):
                fetched = fetch_by_name(self._store, served, name, ref, make_reporter(progress))
        finally:
            fetcher.close()
        return replace(fetched, stream_id=ObjectID(fetched.stream_id))

    @cancellable
    def copy(
        self,
        name: str,
        target: OpenedRepository,
        ref: str | None = None,
        *,
        allow_unverified: bool = False,
        keep: int | None = None,
        progress: Progress | None = None,
    ) -> NamedCopy:
        """Copy an image, a commit or a stream with everything it needs to another repository.

        Args:
            name: An image ID or the ref of an image, else a tag, a commit ID or a prefix of one, else
                the content identifier of a stream.
            target: The other repository, open.
            ref: Its ref or tag there; None is the one that `name` is, if it is one.
            allow_unverified: Move a tag regardless of its requirements.
            keep: Number of earlier targets of the ref there to keep; None leaves its history as it is.
            progress: Told how many objects have been copied, and what had the ref before.

        Raises:
            RepositoryError: Nothing has this name, or nothing may be written.
            IntegrityError: Something is missing, or is not what its name says.
        """
        from cfsctl.kinds.copying import copy_by_name

        with moving(target, progress, keep=keep):
            return copy_by_name(
                self._store,
                store_of(target),
                name,
                ref,
                make_reporter(progress),
                allow_unverified=allow_unverified,
            )
