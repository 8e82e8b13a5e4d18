"""Last step of a pull: make images, store the commit, and name everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.errors import CfsError
from cfsctl.ostree.objects.held_objects import GatheredObjects
from cfsctl.ostree.pull.options import PullResult
from cfsctl.ostree.pull.target import Target
from cfsctl.ostree.pull.unchanged import is_plain, remember
from cfsctl.ostree.store.commit_proof import remember_proof
from cfsctl.ostree.store.commitmeta import check_detached, store_detached
from cfsctl.ostree.store.in_memory import InMemoryCommit
from cfsctl.ostree.store.partial_commits import drop_partial, save_partial, store_part
from cfsctl.ostree.store.publish import publish_commit, restate_commit, store_images
from cfsctl.ostree.store.refs import stream_name
from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.ostree.pull.fetch_objects import ObjectFetcher
    from cfsctl.ostree.pull.find_bases import BaseFinder
    from cfsctl.ostree.pull.get_commit import CommitGetter
    from cfsctl.ostree.pull.journal import PullJournal
    from cfsctl.ostree.pull.task import PullTask
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.ostree.tree.to_tree import CommitObjects


class CommitStorer:
    """Stores the commit, or what has arrived of it."""

    def __init__(self, task: PullTask, bases: BaseFinder, getter: CommitGetter) -> None:
        """Store nothing yet."""
        self._task = task
        self._bases = bases
        self._getter = getter

    # A commit that was here

    def keep(self, stored: CommitStream) -> PullResult:
        """Finish where nothing had to be fetched: the image and the tag may still be wrong."""
        from cfsctl.ostree.store.images import ensure_image  # few pulls find the commit stored

        task, repository = self._task, self._task.repository
        self._check_composefs_digest(stored)
        self._bases.stored.restore_lost()
        image = ensure_image(repository, stored, None, task.options.xattr_names, task.report)
        self._update_detached(stored)
        drop_partial(repository, task.checksum, task.tag)
        stream_id = repository.streams.find(stream_name(task.checksum))
        assert stream_id is not None
        with self._getter.keeping_demand(has_record=stored.record is not None):
            repository.streams.link(stream_name(task.checksum), stream_id, task.tag_ref)
        if self._is_unchanged(stored, stream_id, image):
            remember(repository, Target(task.checksum, task.tag), stream_id)
        if repository.verified.has_news:
            repository.sync()
            repository.save_marks(())
        return PullResult(
            commit=task.checksum,
            stream_id=stream_id,
            image_id=image,
            tag=task.tag,
            verified=self._getter.verifier.verified,
        )

    def _is_unchanged(self, stored: CommitStream, stream_id: ObjectID, image: ObjectID) -> bool:
        """Return whether the next pull may rely on what was found now, see `cfsctl.ostree.pull.unchanged`."""
        return (
            is_plain(self._task.options)
            and self._getter.was_proven
            and (stream_id, image) == (stored.object_id, stored.image)
        )

    def _update_detached(self, stored: CommitStream) -> None:
        """Store what the source says about a commit next to it, if that is more than was stored.

        The original does not store it, and signatures may have come since. What is not verified only takes an
        empty place: it must not push signatures out that were found good. For that it is asked for once, when
        the commit is proven: a pull that finds nothing new asks for nothing.
        """
        verifier, task = self._getter.verifier, self._task
        proof = verifier.proof
        if proof is None and (stored.detached is not None or self._getter.was_proven):
            return
        found = verifier.find_detached() if proof is None else proof
        if found is None:
            return
        check_detached(task.checksum, found)
        detached = store_detached(task.repository, found)
        record = stored.record if proof is None else verifier.store_record()
        if (detached, record) != (stored.detached, stored.record):
            stream_id = restate_commit(task.repository, task.checksum, detached, record)
            remember_proof(task.repository, task.checksum, stream_id)

    # A commit that has arrived

    def store(self, fetcher: ObjectFetcher, journal: PullJournal) -> PullResult:
        """Make the images, and name everything."""
        if self._task.is_partial:
            stream_id, image_id = self._store_part(fetcher, journal)
        else:
            stream_id, image_id = self._store_whole()
            drop_partial(self._task.repository, self._task.checksum, self._task.tag)
        return self._result(stream_id, image_id, fetcher)

    def _store_part(self, fetcher: ObjectFetcher, journal: PullJournal) -> tuple[ObjectID, ObjectID]:
        """Make images of the stored part of the commit, and name them and the partial commit."""
        task, repository = self._task, self._task.repository
        assert task.plan.commit is not None
        objects = self._known_objects(fetcher, journal)
        collected = InMemoryCommit(task.checksum, task.plan.commit, objects, is_partial=True)
        images = store_images(repository, collected, task.options.xattr_names)
        with self._getter.keeping_demand():
            stream_id = store_part(
                repository,
                task.checksum,
                objects,
                images,
                task.tag,
                self._getter.detached,
                self._getter.verifier.store_record(),
            )
        return stream_id, images[repository.erofs_versions[0]]

    def _store_whole(self) -> tuple[ObjectID, ObjectID]:
        task = self._task
        assert task.plan.commit is not None
        collected = InMemoryCommit(task.checksum, task.plan.commit, task.plan.objects)
        self._check_composefs_digest(collected)
        with self._getter.keeping_demand():
            return publish_commit(
                task.repository,
                collected,
                xattr_names=task.options.xattr_names,
                verified=self._bases.stored.find_verified(),
                tag_ref=task.tag_ref,
                detached=self._getter.detached,
                record=self._getter.verifier.store_record(),
                may_fork=task.options.workers != 0,
                leaves=task.preparation.leaves,
            )

    def _check_composefs_digest(self, commit: CommitObjects) -> None:
        if self._task.options.requires_composefs_digest:
            from cfsctl.ostree.tree.composefs_digest import require_composefs_digest

            require_composefs_digest(commit, self._task.repository.objects)

    def _result(self, stream_id: ObjectID, image_id: ObjectID, fetcher: ObjectFetcher) -> PullResult:
        counts, use = self._task.plan.counts, fetcher.delta_use
        return PullResult(
            commit=self._task.checksum,
            stream_id=stream_id,
            image_id=image_id,
            tag=self._task.tag,
            metadata_fetched=counts.metadata + (use.metadata if use else 0),
            files_fetched=counts.files + (use.files if use else 0),
            received_bytes=fetcher.received_bytes + (use.received_bytes if use else 0),
            stored_objects=fetcher.stored_objects,
            stored_bytes=fetcher.stored_bytes,
            delta_parts=use.parts if use else 0,
            is_partial=self._task.is_partial,
            verified=self._getter.verifier.verified,
        )

    # What a pull that fails leaves

    def keep_partial(self, fetcher: ObjectFetcher, journal: PullJournal) -> None:
        """Store what has been fetched for the next pull; the error that ended this one matters more.

        Of a commit that was refused nothing is kept: it may be large, and would be refused again.
        """
        if not self._getter.is_admitted:
            return
        checksum, partial = self._task.checksum, self._bases.partial
        objects = self._known_objects(fetcher, journal)
        objects.discard(self._bases.stored.find_unproven())
        if checksum not in objects:
            return
        try:
            save_partial(self._task.repository, checksum, objects, None if partial is None else partial.image)
            journal.remove()
        except (CfsError, OSError) as error:
            reason = getattr(error, "strerror", None) or error
            self._task.report(Message(f"what was fetched could not be kept for the next pull: {reason}"))

    def _known_objects(self, fetcher: ObjectFetcher, journal: PullJournal) -> GatheredObjects:
        """Return all stored objects of the commit, from any source."""
        known = GatheredObjects()
        partial = self._bases.partial
        if partial is not None:
            known.take(partial, partial.find)
        if journal.is_proven:
            contains = self._task.repository.objects.contains
            ids = journal.objects.iter_ids()
            known.take((name for name, content in ids if content is None or contains(content)), journal.find)
        known.take(fetcher.delta_objects, fetcher.delta_objects.get)
        known.take(self._task.plan.objects, self._task.plan.objects.get)
        return known
