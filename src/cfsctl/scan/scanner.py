"""A directory becomes a tree.

The work is shared: walkers in worker processes list directories and read files, this process puts
together what they report and hands out what they leave. Only the scanning process knows the tree;
walkers know paths and descriptors.

    scanning process                        walkers (forked)
      directories to visit  ── VisitTask ──▶  list, look at, read small files
      files to read         ── ReadTask  ──▶  read large ones, the largest first
      tree  ◀── VisitReport, ReadReport ────  with directories and files that are left
"""

from __future__ import annotations

import contextlib
import heapq
import itertools
import os
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.errors import LimitError
from cfsctl.limits import MAX_ENTRIES
from cfsctl.linux.flags import DIRECTORY_FLAGS
from cfsctl.processors import default_worker_count
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.scan.files import ChangedError, ContentReader, NoProcError
from cfsctl.scan.records import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    EXTERNAL,
    FIFO,
    INLINE,
    SYMLINK,
    FileToRead,
    Place,
    ReadTask,
    Report,
    Task,
    VisitReport,
    VisitTask,
)
from cfsctl.scan.walker import Walker
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Socket,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.digest import Algorithm
    from cfsctl.progress import Reporter
    from cfsctl.scan.cache import FileCache
    from cfsctl.scan.files import State
    from cfsctl.scan.fingerprint import Fingerprint
    from cfsctl.scan.records import Entry, ListedDirectory, Pairs, ReadReport
    from cfsctl.scan.store import ObjectSink
    from cfsctl.scan.xattrs import KeepXattr

_FIRST_ENTRIES: Final = 128
_FIRST_BYTES: Final = 1 << 20
"""What is scanned before any worker is started; small trees need none."""

_VISIT_ENTRIES: Final = 512
_VISIT_BYTES: Final = 4 << 20
_VISIT_PLACES: Final = 32
"""A walker's budget: enough that asking costs little, and little enough that all are busy to the end."""

_READ_BYTES: Final = 4 << 20
_READ_FILES: Final = 64

_TASKS_PER_WORKER: Final = 3

_PROGRESS_ID: Final = "scan"


def scan_directory(
    path: str,
    *,
    algorithm: Algorithm,
    store: ObjectSink | None = None,
    keep_xattr: KeepXattr | None = None,
    hard_links: bool = True,
    workers: int | None = None,
    cache: FileCache | None = None,
    fingerprint: Fingerprint | None = None,
    reporter: Reporter = silent,
) -> FileSystem:
    """Return the tree of a directory.

    Mount points are crossed, nothing is omitted, and times of access do not count. Content of more
    than 64 bytes is external; it is in the store afterwards, if one is given.

    Args:
        path: The directory; a symbolic link is refused.
        algorithm: Hash algorithm of the objects.
        store: Where content goes, or None to compute IDs only.
        keep_xattr: Says by its name whether an extended attribute is taken over; None keeps all.
        hard_links: Keep the names of one file together; otherwise each name is a file of its own.
        workers: Processes that look at files; None is one for each processor, 0 is this one alone.
        cache: What earlier scans have read; `FileCache.save` keeps what this one adds.
        fingerprint: Becomes that of what was found, or None.
        reporter: Told how many entries have been seen.

    Raises:
        ChangedError: Something changed in the meantime.
        NoProcError: There is no ``/proc``.
        StaleCacheError: The cache was to be verified, and is wrong.
        OSError: Something cannot be read or stored; it is named.
    """
    _check_proc()
    root = os.open(path, DIRECTORY_FLAGS)

    base = os.fsencode(path)
    content = ContentReader(algorithm, store)

    def make_walker() -> Walker:
        return Walker(
            root, base, content, keep_xattr=keep_xattr, cache=cache, with_digests=fingerprint is not None
        )

    try:
        with python_gc_paused():
            assembly = _Assembly(base, cache, fingerprint, hard_links=hard_links)
            _run(assembly, make_walker, default_worker_count() if workers is None else workers, reporter)
            if fingerprint is not None:
                fingerprint.complete()
        return FileSystem(assembly.root)
    finally:
        os.close(root)


def _check_proc() -> None:
    """Check that there is a ``/proc``, without which attributes of links cannot be read by descriptor.

    Raises:
        NoProcError: None exists.
    """
    if not os.path.isdir("/proc/self/fd"):
        raise NoProcError("a scan needs /proc, which is not mounted", hint="mount -t proc proc /proc")


def _run(assembly: _Assembly, make_walker: Callable[[], Walker], count: int, reporter: Reporter) -> None:
    """Process all work, including new work that is found in the meantime."""
    reporter(Started(_PROGRESS_ID, None, Unit.ITEMS))
    with contextlib.closing(make_walker()) as walker:
        assembly.absorb(walker(assembly.first_task()))
    if assembly.has_work:
        from cfsctl.workers import WorkerPool  # small trees need none

        with WorkerPool[Task, Report](make_walker, count) as pool:
            limit = _TASKS_PER_WORKER * max(1, pool.count)
            while True:
                while pool.pending < limit and (task := assembly.next_task(limit)):
                    pool.submit(task, _weigh(task))
                if not pool.pending:
                    break
                for report in pool.poll():
                    assembly.absorb(report)
                reporter(Advanced(_PROGRESS_ID, assembly.seen, None))
    reporter(Done(_PROGRESS_ID, assembly.seen))


def _weigh(task: Task) -> int:
    """Return how long a task takes, in units of the usual; a worker with more than two gets no other."""
    if isinstance(task, VisitTask):
        return 1
    return 1 + sum(file.size for file in task.files) // _READ_BYTES


class _Request:
    """A file that is to be read, and the nodes that are to learn its object ID."""

    __slots__ = ("file", "leaves", "object_id")

    def __init__(self, file: FileToRead) -> None:
        self.file = file
        self.leaves: list[ExternalFile] = []
        self.object_id: ObjectID | None = None

    def add(self, leaf: ExternalFile) -> None:
        if self.object_id is not None:
            leaf.object_id = self.object_id
        else:
            self.leaves.append(leaf)

    def fulfil(self, object_id: ObjectID) -> None:
        self.object_id = object_id
        for leaf in self.leaves:
            leaf.object_id = object_id
        self.leaves.clear()


class _Assembly:
    """The tree as far as it is known, and the work that is left.

    Attributes:
        seen: Number of nodes so far.
    """

    def __init__(
        self, base: bytes, cache: FileCache | None, fingerprint: Fingerprint | None, *, hard_links: bool
    ) -> None:
        self.seen = 0
        self._base = base
        self._cache = cache
        self._fingerprint = fingerprint
        self._hard_links = hard_links
        self._directories: list[Directory] = []
        self._names: list[tuple[int, bytes]] = []
        """Number of the parent and name of each directory."""
        self._places: list[Place] = []
        self._links: dict[tuple[int, int], tuple[Leaf, State]] = {}
        self._requests: dict[State, _Request] = {}
        self._unread: list[tuple[int, int, _Request]] = []
        """A heap, the largest file first."""
        self._outstanding: dict[int, list[_Request]] = {}
        self._numbers = itertools.count()
        self._mappings: dict[Pairs, Mapping[bytes, bytes]] = {}

    @property
    def root(self) -> Directory:
        return self._directories[0]

    @property
    def has_work(self) -> bool:
        return bool(self._places or self._unread)

    # Work

    @staticmethod
    def first_task() -> VisitTask:
        """Return the task of visiting the root."""
        return VisitTask([Place(0, (0, 0), b"")], _FIRST_ENTRIES, _FIRST_BYTES)

    def next_task(self, shares: int) -> Task | None:
        """Return something to do, or None if there is nothing at the moment.

        Args:
            shares: Tasks that are handed out at a time.
        """
        if self._unread:
            return self._next_files()
        if not self._places:
            return None
        count = max(1, min(_VISIT_PLACES, len(self._places) // shares))
        places = self._places[-count:]
        del self._places[-count:]
        return VisitTask(places, _VISIT_ENTRIES, _VISIT_BYTES)

    def _next_files(self) -> ReadTask:
        # The largest first, so that they do not come last, when there is nothing else to do in parallel.
        requests: list[_Request] = []
        size = 0
        while self._unread and size < _READ_BYTES and len(requests) < _READ_FILES:
            _, _, request = heapq.heappop(self._unread)
            requests.append(request)
            size += request.file.size
        number = next(self._numbers)
        self._outstanding[number] = requests
        return ReadTask(number, [request.file for request in requests])

    # Reports

    def absorb(self, report: Report) -> None:
        """Add what a walker has found."""
        if self._cache is not None and report.news:
            self._cache.absorb(report.news)
        if isinstance(report, VisitReport):
            self._absorb_visit(report)
        else:
            self._absorb_files(report)

    def _absorb_files(self, report: ReadReport) -> None:
        requests = self._outstanding.pop(report.number)
        for request, object_id in zip(requests, report.object_ids, strict=True):
            request.fulfil(object_id)

    def _absorb_visit(self, report: VisitReport) -> None:
        first = len(self._directories)
        for listed in report.directories:
            parent = listed.parent if listed.parent >= 0 else first + ~listed.parent
            self._add_directory(listed, parent)
        if self._fingerprint is not None:
            added = self._directories[first:]
            for listed, directory, digest in zip(report.directories, added, report.digests, strict=True):
                if digest:
                    self._fingerprint.add(digest)
                else:
                    self._fingerprint.add_later(listed, directory)
        for place in report.waiting:
            if place.parent < 0:
                self._places.append(place._replace(parent=first + ~place.parent))
            else:
                self._places.append(place)

    def _add_directory(self, listed: ListedDirectory, parent: int) -> None:
        seconds, nanoseconds = divmod(listed.mtime_ns, 1_000_000_000)
        xattrs = self._mapping(listed.xattrs)
        directory = Directory(listed.mode, listed.uid, listed.gid, seconds, nanoseconds, xattrs)
        if self._directories:
            self._directories[parent].entries[listed.name] = directory
        self._directories.append(directory)
        self._names.append((parent, listed.name))
        self.seen += 1 + len(listed.entries)
        if self.seen > MAX_ENTRIES:
            base = os.fsdecode(self._base)
            raise LimitError(f"{base}: expected at most {MAX_ENTRIES} entries in the whole tree, found more")
        self._add_entries(directory.entries, listed.entries)
        for file in listed.unread:
            self._request(file, directory.entries[file.name])

    def _add_entries(self, target: dict[bytes, Directory | Leaf], entries: list[Entry]) -> None:
        for entry in entries:
            name, state = entry[1], entry[7]
            if state is None or not self._hard_links:
                target[name] = self._make_leaf(entry)
                continue
            known = self._links.get(state[:2])
            if known is None:
                known = self._links[state[:2]] = self._make_leaf(entry), state
            elif known[1] != state:
                path = self._path(len(self._directories) - 1, name)
                raise ChangedError(path, "its hard links showed different states")
            target[name] = known[0]

    def _make_leaf(self, entry: Entry) -> Leaf:
        kind, _, mode, uid, gid, mtime_ns, pairs, _, payload, size = entry
        seconds, nanoseconds = divmod(mtime_ns, 1_000_000_000)
        xattrs = NO_XATTRS if pairs is None else self._mapping(pairs)
        if kind == EXTERNAL:
            return ExternalFile(ObjectID(payload), size, mode, uid, gid, seconds, nanoseconds, xattrs)
        if kind == INLINE:
            return InlineFile(payload, mode, uid, gid, seconds, nanoseconds, xattrs)
        if kind == SYMLINK:
            return Symlink(payload, mode, uid, gid, seconds, nanoseconds, xattrs)
        if kind == CHAR_DEVICE:
            return CharDevice(size, mode, uid, gid, seconds, nanoseconds, xattrs)
        if kind == BLOCK_DEVICE:
            return BlockDevice(size, mode, uid, gid, seconds, nanoseconds, xattrs)
        return (Fifo if kind == FIFO else Socket)(mode, uid, gid, seconds, nanoseconds, xattrs)

    def _mapping(self, pairs: Pairs | None) -> Mapping[bytes, bytes]:
        """Return attributes as a node has them; nodes with the same attributes share them."""
        if not pairs:
            return NO_XATTRS
        mapping = self._mappings.get(pairs)
        if mapping is None:
            mapping = self._mappings[pairs] = dict(pairs)
        return mapping

    def _request(self, file: FileToRead, leaf: Directory | Leaf) -> None:
        """Schedule a file to be read once for all its names."""
        assert isinstance(leaf, ExternalFile)
        if leaf.object_id:
            return  # under another name
        request = self._requests.get(file.state)
        if request is None:
            request = self._requests[file.state] = _Request(file)
            heapq.heappush(self._unread, (-file.size, len(self._requests), request))
        request.add(leaf)

    def _path(self, number: int, name: bytes) -> bytes:
        """Return the path of an entry of a directory, for a message."""
        parts = [name]
        while number:
            number, part = self._names[number]
            parts.append(part)
        return os.path.join(self._base, *reversed(parts))
