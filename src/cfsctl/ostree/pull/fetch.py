"""Fetching and importing content in forked workers, while the parent still fetches metadata.

    parent   checksums ──▶ backlog ──▶ batches ──▶ worker   source ─▶ FileImporter ─▶ object store
             plan     ◀── headers, inline content, object IDs ◀──┘

Batches are small while little is known to be wanted, so that all workers begin at once, and again at the
end, so that they end together. Only as many are handed out as keep the workers busy.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl import heartbeat
from cfsctl.compression.inflate import load_inflate
from cfsctl.digest import Checksum
from cfsctl.ostree.content.file_import import FileImporter
from cfsctl.workers.batches import Batches, PartlyDoneError, SharedCounters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from types import TracebackType
    from typing import Self, TypeAlias

    from cfsctl.compression.inflate import Inflate
    from cfsctl.digest import ObjectID
    from cfsctl.ostree.content.target import ImportedFile
    from cfsctl.ostree.source import ObjectSource
    from cfsctl.repository.objects.store import ObjectStore

    File: TypeAlias = tuple[Checksum, bytes, ObjectID | None]
    Note: TypeAlias = Callable[[Sequence[File]], None]

MIN_BATCH: Final = 16
MAX_BATCH: Final = 512
"""Files of a batch. A transfer of many small objects needs many of them in flight."""

_MAX_BATCH_BYTES: Final = 4 << 20
"""Headers and inline content of a batch, which a worker and the parent hold in memory. A batch of files with
large attributes ends early."""

MAX_BACKLOG: Final = 1 << 16
"""Files that are waiting; beyond that there is no need to learn of more of them."""

_FEW: Final = 64
_LITTLE_BYTES: Final = 4 << 20
"""Files, and their bytes, that are imported in less time than it takes to start workers."""

_SHARES: Final = 4
"""A batch is at most this part of what a worker would have to do alone."""

_BATCHES_HELD: Final = 2
"""Batches handed out per worker: one in work and one waiting."""

_CHECKSUM_SIZE: Final = 32

_SLOTS: Final = 256
"""Batches that may be handed out at the same time; a number of one fits a byte."""

_NOTED_AT_ONCE: Final = 8
_NOTED_AT_ONCE_BYTES: Final = 1 << 16
"""Files that are written down together, at most, and what was received for them: as much is lost if a worker
is killed."""


class Batch(NamedTuple):
    """What a worker did.

    Attributes:
        files: (checksum, header and inline content, ID of content that is an object).
        received_bytes: Stored form of all files.
        stored_objects: Number of objects that were new.
        stored_bytes: Content of these.
        slot: Number of the counter that showed how far it was.
        left: Checksums of files that were not fetched, joined.
    """

    files: list[File]
    received_bytes: int
    stored_objects: int
    stored_bytes: int
    slot: int
    left: bytes = b""


class _FileWorker:
    """One worker's side: takes the number of a counter and the checksums of a batch, joined together."""

    def __init__(
        self,
        source: ObjectSource,
        objects: ObjectStore,
        inflate: Inflate,
        note: Note,
        counters: SharedCounters,
        tell: Callable[[], None],
    ) -> None:
        self._counters = counters
        self._source = source
        self._note = note
        self._objects = objects
        self._inflate = inflate
        self._tell = tell

    def __call__(self, task: bytes) -> Batch:
        importer = FileImporter(self._objects, self._inflate)
        count = self._counters.writer(task[0])

        def note_size() -> None:
            count(importer.received_bytes)

        def tell_size() -> None:
            note_size()
            self._tell()

        # In the process that asks, nobody else looks at the counter while this works.
        is_local = heartbeat.is_watched()
        with heartbeat.accompanied(tell_size) if is_local else heartbeat.watched(note_size):
            return self._run(task, importer)

    def _run(self, task: bytes, importer: FileImporter) -> Batch:
        slot, checksums = task[0], _split(task[1:])
        # Plain tuples: half the time of pickling named ones.
        files: list[File] = []
        noted = noted_bytes = held_bytes = 0
        append = files.append
        note = self._note
        try:
            for checksum, data, object_id in self._fetch(checksums, importer):
                append((checksum, data, object_id))
                held_bytes += len(data)
                if held_bytes > _MAX_BATCH_BYTES:
                    break
                if (
                    len(files) - noted >= _NOTED_AT_ONCE
                    or importer.received_bytes - noted_bytes >= _NOTED_AT_ONCE_BYTES
                ):
                    note(files[noted:])
                    noted, noted_bytes = len(files), importer.received_bytes
            note(files[noted:])
        except BaseException as error:
            with contextlib.suppress(OSError):  # the first error matters more
                note(files[noted:])
            if not isinstance(error, Exception):  # told to end
                raise
            raise PartlyDoneError(_batch(files, importer, slot)) from error
        batch = _batch(files, importer, slot)
        if len(files) == len(checksums):
            return batch
        done = {file[0] for file in files}
        return batch._replace(left=b"".join(checksum for checksum in checksums if checksum not in done))

    def _fetch(self, checksums: Sequence[Checksum], importer: FileImporter) -> Iterator[ImportedFile]:
        return self._source.fetch_files(checksums, importer.open_sink)

    def close(self) -> None:
        self._source.close()


def _split(checksums: bytes) -> list[Checksum]:
    places = range(0, len(checksums), _CHECKSUM_SIZE)
    return [Checksum(checksums[place : place + _CHECKSUM_SIZE]) for place in places]


def _batch(files: list[File], importer: FileImporter, slot: int) -> Batch:
    return Batch(files, importer.received_bytes, importer.stored_objects, importer.stored_bytes, slot)


class FileWorkers:
    """Workers that fetch and import content objects.

    A context manager: leaving it ends the workers, at once if an exception is on its way.
    """

    def __init__(
        self,
        source: ObjectSource,
        objects: ObjectStore,
        count: int | None,
        note: Note,
        tell: Callable[[int], None],
        find_size: Callable[[Sequence[Checksum]], int] | None = None,
    ) -> None:
        """Start the workers; the source must have no connection open.

        Args:
            source: Where content comes from.
            objects: Where it goes.
            count: Number of processes; 0 works in this one, None uses all processors.
            note: Called in the worker with the files that are verified and stored, some at a time.
            tell: Called with `arriving_bytes`, several times a second, while `poll` does the work itself:
                in a process that may not fork, or without workers.
            find_size: Returns what files take in a source that never has connections. Then workers are not
                started before there is much to do, and not at all if in the end it is little.
        """
        inflate = load_inflate()
        counters = self._counters = SharedCounters(_SLOTS)
        make: Callable[[], _FileWorker] = lambda: _FileWorker(  # noqa: E731
            source, objects, inflate, note, counters, lambda: tell(self.arriving_bytes)
        )
        self._find_size = find_size
        self._count = count
        self._start: Callable[[int | None], Batches[bytes, Batch]] = lambda count: Batches(
            make, count, held=_BATCHES_HELD
        )
        self._batches = self._start(count) if find_size is None else None
        self._backlog: list[Checksum] = []
        self._free_slots = list(range(_SLOTS))

    @property
    def arriving_bytes(self) -> int:
        """Size of what has come for batches that were not returned yet."""
        return sum(map(self._counters.read, set(range(_SLOTS)).difference(self._free_slots)))

    @property
    def is_idle(self) -> bool:
        """Whether everything that was added has been returned."""
        return not self._backlog and (self._batches is None or not self._batches.pending)

    @property
    def is_behind(self) -> bool:
        """Whether so many files are waiting that nothing more needs to be added for now."""
        return len(self._backlog) > MAX_BACKLOG

    def add(self, checksums: Sequence[Checksum]) -> None:
        """Add wanted content objects; never blocks."""
        self._backlog += checksums
        if self._batches is None and len(self._backlog) > _FEW:
            self._batches = self._start(self._count)
        self._hand_out()

    def begin(self) -> None:
        """Begin with what was added, if that was put off until all is known."""
        if self._batches is None and self._backlog:
            assert self._find_size is not None
            is_little = len(self._backlog) <= _FEW and self._find_size(self._backlog) <= _LITTLE_BYTES
            self._batches = self._start(0 if is_little else self._count)
            self._hand_out()

    def _hand_out(self) -> None:
        batches = self._batches
        while batches is not None and self._backlog and batches.has_room and self._free_slots:
            size = min(max(MIN_BATCH, len(self._backlog) // (_SHARES * batches.count)), MAX_BATCH)
            slot = self._free_slots.pop()
            self._counters.writer(slot)(0)
            batches.submit(bytes((slot,)) + b"".join(self._backlog[-size:]))
            del self._backlog[-size:]

    def poll(self, timeout_s: float | None = None) -> list[Batch]:
        """Return batches that are done; see `WorkerPool.poll`.

        Raises:
            CfsError: A file could not be had or is not valid; the message names it.
            OSError: It could not be stored.
        """
        if self._batches is None:
            return []
        batches = self._batches.poll(timeout_s)
        for batch in batches:
            self._backlog += _split(batch.left)
            self._free_slots.append(batch.slot)
        self._hand_out()
        return batches

    def rescue(self, timeout_s: float) -> list[Batch]:
        """Return what has been done by the time of an error, and what is done soon after it.

        Args:
            timeout_s: How long to wait for batches that are in work.
        """
        self._backlog.clear()
        return [] if self._batches is None else self._batches.drain(timeout_s)

    def __enter__(self) -> Self:
        """Return the workers."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers."""
        if self._batches is not None:
            self._batches.__exit__(kind, value, trace)
