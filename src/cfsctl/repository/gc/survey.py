"""Statistics together with what each object is: its size, which refs lead to it, whether it is garbage.

Some thirty bytes of each object are in memory, so this is for reports; `cfsctl.repository.gc.stats` measures
without.
"""

from __future__ import annotations

import heapq
import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.gc.collect import find_garbage
from cfsctl.repository.gc.mark import Marker
from cfsctl.repository.gc.object_table import ABSENT, Mark, ObjectTable
from cfsctl.repository.gc.stats import (
    BLOCK_SIZE,
    RefStats,
    Stats,
    count_quarantined,
    ignore,
    iter_refs,
    measure_streams,
)
from cfsctl.repository.gc.sweep import FAN_OUT, open_directory

if TYPE_CHECKING:
    from cfsctl.progress import Reporter
    from cfsctl.repository.gc.results import GcResult
    from cfsctl.repository.repository import Repository


class Survey(NamedTuple):
    """Statistics, with what they were made of.

    Attributes:
        stats: The statistics.
        objects: All stored objects, with the refs in the statistics that lead to each.
        largest: The largest objects, these first.
        collection: What a collection would do.
        marker: Knows all links, and what entries lead to.
    """

    stats: Stats
    objects: ObjectTable
    largest: list[ObjectID]
    collection: GcResult
    marker: Marker


class _Measured(NamedTuple):
    objects: ObjectTable
    largest: list[ObjectID]
    allocated_bytes: int


def survey_repository(repository: Repository, largest: int, reporter: Reporter = silent) -> Survey:
    """Return what is known about a repository, and about each object; changes nothing.

    Args:
        repository: The repository, open.
        largest: How many of the largest objects to name.
        reporter: Told how many refs have been followed.

    Raises:
        OSError: A directory cannot be read.
    """
    objects, names, allocated_bytes = _measure_objects(repository, largest)
    marker = Marker(repository)
    refs = _measure_refs(marker, objects, reporter)
    collection = find_garbage(
        repository, lambda dead: objects.mark((one.object_id for one in dead), Mark.DEAD)
    )
    stream_bytes, stream_inline_bytes = measure_streams(marker, repository)
    stats = Stats(
        objects=len(objects),
        bytes=sum(objects.sizes),
        allocated_bytes=allocated_bytes,
        images=len(marker.images.entries),
        streams=len(marker.streams.entries),
        stream_bytes=stream_bytes,
        stream_inline_bytes=stream_inline_bytes,
        garbage_objects=collection.objects_removed,
        garbage_bytes=collection.bytes_removed,
        quarantined=count_quarantined(repository.dirfd),
        refs=refs,
        problems=list(collection.problems),
    )
    return Survey(stats, objects, names, collection, marker)


def _measure_objects(repository: Repository, largest: int) -> _Measured:
    """Return all objects, and the largest of them; what is not an object is skipped."""
    table = ObjectTable()
    kept: list[tuple[int, str]] = []
    blocks = 0
    name_length = 2 * (repository.algorithm.digest_size - 1)
    with open_directory(repository.dirfd, "objects", ignore) as objects:
        for fan_out in FAN_OUT:
            found: list[tuple[str, int]] = []
            if objects is not None:
                with open_directory(objects, fan_out, ignore) as directory:
                    for name in [] if directory is None else os.listdir(directory):
                        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                        if len(name) == name_length and stat.S_ISREG(status.st_mode):
                            found.append((name, status.st_size))
                            blocks += status.st_blocks
            table.add_directory(found)
            # Ties are decided by the ID, not by the order in which a directory lists them.
            kept = heapq.nsmallest(largest, [*kept, *((-size, fan_out + name) for name, size in found)])
    names = [ObjectID(bytes.fromhex(name)) for _, name in kept]
    return _Measured(table, names, blocks * BLOCK_SIZE)


REFS_ID: Final = "refs"
"""Names the progress of following refs."""


def _measure_refs(marker: Marker, objects: ObjectTable, reporter: Reporter = silent) -> list[RefStats]:
    """Return what each ref needs, sorted by name; record who needs each object.

    What one ref leads to is let go before the next is followed: of a thousand refs to large trees, memory
    does not hold all.
    """
    refs = sorted(iter_refs(marker))
    measured: list[RefStats] = []
    kinds: list[str] = []
    reporter(Started(REFS_ID, len(refs), Unit.ITEMS))
    for index, (name, category, entry) in enumerate(refs):
        live = marker.reach(marker.links_of(category), entry)
        present = [number for number in map(objects.find, live) if number != ABSENT]
        size = sum(objects.sizes[number] for number in present)
        target, missing = f"{category}/{entry}", len(live) - len(present)
        measured.append(RefStats(name, target, len(present), size, 0, 0, missing))
        kinds.append(measured[-1].kind_and_name()[0])
        _own(objects, present, index, kinds)
        reporter(Advanced(REFS_ID, index + 1, len(refs)))
    reporter(Done(REFS_ID, len(refs)))
    return _add_exclusive(measured, objects)


def _own(objects: ObjectTable, present: list[int], index: int, kinds: list[str]) -> None:
    """Record that a ref, the last of those with these kinds, leads to objects."""
    owners, further, marks = objects.owners, objects.further, objects.marks
    for number in present:
        first = owners[number]
        if first == ABSENT:
            owners[number] = index
            continue
        further[number] += 1
        if kinds[first] != kinds[index]:
            marks[number] |= Mark.MIXED


def _add_exclusive(refs: list[RefStats], objects: ObjectTable) -> list[RefStats]:
    """Return refs with what only they lead to."""
    counts, total = [0] * len(refs), [0] * len(refs)
    for size, index, others in zip(objects.sizes, objects.owners, objects.further, strict=True):
        if index != ABSENT and not others:
            counts[index] += 1
            total[index] += size
    return [
        ref._replace(exclusive_objects=counts[index], exclusive_bytes=total[index])
        for index, ref in enumerate(refs)
    ]
