"""Fetch delta parts and run their programs in parallel, in forked workers.

Parts are independent of each other. Objects that a part has made before an error are kept, because each of
them was verified.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl import heartbeat
from cfsctl.errors import CfsError, DigestMismatchError
from cfsctl.ostree.delta.budget import make_budget
from cfsctl.ostree.delta.choice import read_sizes
from cfsctl.ostree.delta.format import DeltaError
from cfsctl.ostree.delta.part import open_part
from cfsctl.ostree.delta.program import PartProgram
from cfsctl.ostree.delta.views import ByteView, Scratch
from cfsctl.ostree.objects import OstreeObjectError, parse_zlib_file_header
from cfsctl.workers import WorkerDiedError
from cfsctl.workers.batches import Batches, PartlyDoneError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.delta.store import DeltaInfo, DeltaStore
    from cfsctl.ostree.delta.superblock import Superblock
    from cfsctl.ostree.store.commit_stream import CommitStream
    from cfsctl.repository.objects.store import ObjectStore

_PARTS_HELD: Final = 2
"""Parts handed out per worker: one in work and one waiting."""


class PartResult(NamedTuple):
    """What became of a part.

    Attributes:
        number: Which part.
        produced: Objects that it made, in the order of its list: checksum, data as a commit stream has it, ID
            of content that is an object.
        received_bytes: Size of the part as stored.
    """

    number: int
    produced: list[tuple[Checksum, bytes, ObjectID | None]]
    received_bytes: int


class CommitFiles:
    """The files of a stored commit as sources of patches; see `program.SourceFiles`."""

    def __init__(self, stream: CommitStream | None, objects: ObjectStore) -> None:
        """Offer the files of a commit, or none."""
        self._stream = stream
        self._objects = objects

    @contextmanager
    def open(self, checksum: Checksum) -> Iterator[ByteView]:
        """Show the content of a regular file of the commit.

        Raises:
            DeltaError: It has no such file, or there is no commit.
            IntegrityError: Its content is missing or damaged.
        """
        found = None if self._stream is None else self._stream.find(checksum)
        if found is None:
            raise DeltaError(f"source file {checksum.hex()}: expected a file of the old commit, found none")
        data, object_id = found
        try:
            header = parse_zlib_file_header(data)
        except OstreeObjectError as error:
            raise DeltaError(f"source file {checksum.hex()}: {error}") from error
        if object_id is None:
            yield ByteView.of_bytes(data[header.length_bytes :])
            return
        fd = self._objects.open(object_id)
        try:
            yield ByteView.of_file(fd)
        finally:
            os.close(fd)


class _PartWorker:
    """One worker's side: takes numbers of parts."""

    def __init__(
        self,
        store: DeltaStore,
        offer: DeltaInfo,
        superblock: Superblock,
        sources: CommitFiles,
        objects: ObjectStore,
    ) -> None:
        self._store = store
        self._offer = offer
        self._superblock = superblock
        self._sources = sources
        self._objects = objects
        self._sizes = read_sizes(superblock.commit)

    def __call__(self, number: int) -> PartResult:
        where = f"{self._superblock.description}: part {number}"
        inline = self._superblock.inline.get(number)
        if inline is not None:
            return self._run(number, inline, where)
        limit = self._superblock.parts[number].size_bytes
        held = self._store.fetch_part(self._offer, number, limit, self._objects)
        try:
            return self._run(number, held.view(), where)
        finally:
            held.close()

    def _run(self, number: int, view: ByteView, where: str) -> PartResult:
        part = self._superblock.parts[number]
        scratch = Scratch(self._objects)
        program: PartProgram | None = None
        try:
            budget = make_budget(self._superblock, self._sizes, number, view.size)
            content = open_part(view, part, scratch, budget.plain_bytes)
            program = PartProgram(
                content,
                part.objects,
                budget.announced_bytes,
                self._sources,
                self._objects,
                free_bytes=budget.free_bytes,
            )
            program.run()
        except (CfsError, OSError) as error:
            result = PartResult(number, program.produced if program else [], view.size)
            raise PartlyDoneError(result) from _about(error, where)
        finally:
            scratch.close()
        return PartResult(number, program.produced, view.size)

    def close(self) -> None:
        self._store.close()


def _about(error: CfsError | OSError, where: str) -> CfsError | OSError:
    """Return an error that says in which part it was."""
    if isinstance(error, DeltaError):
        return error.about(where)
    if isinstance(error, DigestMismatchError):
        return type(error)(f"{where}: {error.what}", expected=error.expected, actual=error.actual)
    return error


def run_parts(
    store: DeltaStore,
    offer: DeltaInfo,
    superblock: Superblock,
    numbers: Sequence[int],
    sources: CommitFiles,
    objects: ObjectStore,
    take: Callable[[PartResult], None],
    workers: int | None = None,
    beside: Callable[[], bool] | None = None,
) -> None:
    """Run parts of a delta; `store` must have no connection open.

    Args:
        store: Where parts are that are not in the superblock.
        offer: The delta as the store knows it.
        superblock: The delta.
        numbers: The parts to run.
        sources: The files of the old commit.
        objects: Where content goes.
        take: Gets what each part made, also one that failed.
        workers: Number of processes; 0 works in this one, None uses all processors.
        beside: Called while parts are in work; does a little of something else and returns whether there was
            something to do. None if there is nothing.

    Raises:
        CfsError: The first part that failed; parts that were in work have been waited for.
        OSError: Something could not be stored.
    """

    def make() -> _PartWorker:
        return _PartWorker(store, offer, superblock, sources, objects)

    waiting = list(reversed(numbers))
    count = _worker_count(workers, len(numbers), has_other_work=beside is not None)
    with Batches[int, PartResult](make, count, held=_PARTS_HELD) as parts:
        try:
            while waiting or parts.pending:
                while waiting and parts.has_room:
                    parts.submit(waiting.pop())
                is_busy = beside is not None and beside()
                for result in parts.poll(0 if is_busy else None):
                    take(result)
        except WorkerDiedError:
            raise
        except (CfsError, OSError):
            for result in parts.drain(0.0 if heartbeat.is_ended() else None):
                take(result)
            raise


def _worker_count(wanted: int | None, parts: int, *, has_other_work: bool) -> int | None:
    """Return how many processes to start: one part is run in this one if that has nothing else to do."""
    if parts > 1 or wanted == 0:
        return wanted
    return int(has_other_work and parts > 0)
