"""Statistics together with what each object is: its size, which refs lead to it, whether it is garbage.

All of it is in memory at a time, so this is for reports; `cfsctl.repository.gc.stats` measures without.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.gc.collect import find_garbage
from cfsctl.repository.gc.mark import Marker
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
    from collections.abc import Iterable

    from cfsctl.progress import Reporter
    from cfsctl.repository.gc.collect import FoundGarbage
    from cfsctl.repository.repository import Repository


class RefOwners:
    """Which refs lead to each object, by their places in the list of refs.

    Attributes:
        first: One of the refs for each object that any leads to.
        further: How many others there are, for objects that several lead to.
        mixed: Objects that refs of more than one kind lead to.
        kinds: The kind of each ref.
    """

    def __init__(self) -> None:
        """Start without any objects."""
        self.first: dict[ObjectID, int] = {}
        self.further: dict[ObjectID, int] = {}
        self.mixed: set[ObjectID] = set()
        self.kinds: list[str] = []

    def add(self, kind: str, live: Iterable[ObjectID]) -> None:
        """Record what the next ref leads to."""
        index = len(self.kinds)
        self.kinds.append(kind)
        for object_id in live:
            first = self.first.setdefault(object_id, index)
            if first != index:
                self.further[object_id] = self.further.get(object_id, 0) + 1
                if self.kinds[first] != kind:
                    self.mixed.add(object_id)

    def count(self, object_id: ObjectID) -> int:
        """Return how many refs lead to an object."""
        return 1 + self.further.get(object_id, 0) if object_id in self.first else 0


class Survey(NamedTuple):
    """Statistics, with what they were made of.

    Attributes:
        stats: The statistics.
        sizes: Sizes of all stored objects.
        owners: Which of the refs in the statistics lead to each object.
        garbage: What a collection would do.
        marker: Knows all links, and what entries lead to.
    """

    stats: Stats
    sizes: dict[ObjectID, int]
    owners: RefOwners
    garbage: FoundGarbage
    marker: Marker


class _Sizes(NamedTuple):
    by_id: dict[ObjectID, int]
    allocated_bytes: int


def survey_repository(repository: Repository, reporter: Reporter = silent) -> Survey:
    """Return what is known about a repository, and about each object; changes nothing.

    Args:
        repository: The repository, open.
        reporter: Told how many refs have been followed.

    Raises:
        OSError: A directory cannot be read.
    """
    sizes = _measure_objects(repository)
    marker = Marker(repository)
    refs, owners = _measure_refs(marker, sizes.by_id, reporter)
    garbage = find_garbage(repository)
    stream_bytes, stream_inline_bytes = measure_streams(marker, repository)
    stats = Stats(
        objects=len(sizes.by_id),
        bytes=sum(sizes.by_id.values()),
        allocated_bytes=sizes.allocated_bytes,
        images=len(marker.images.entries),
        streams=len(marker.streams.entries),
        stream_bytes=stream_bytes,
        stream_inline_bytes=stream_inline_bytes,
        garbage_objects=garbage.result.objects_removed,
        garbage_bytes=garbage.result.bytes_removed,
        quarantined=count_quarantined(repository.dirfd),
        refs=refs,
        problems=list(garbage.result.problems),
    )
    return Survey(stats, sizes.by_id, owners, garbage, marker)


def _measure_objects(repository: Repository) -> _Sizes:
    """Return the sizes of all objects; what is not an object is skipped."""
    by_id: dict[ObjectID, int] = {}
    blocks = 0
    name_length = 2 * (repository.algorithm.digest_size - 1)
    with open_directory(repository.dirfd, "objects", ignore) as objects:
        for fan_out in FAN_OUT if objects is not None else ():
            assert objects is not None
            with open_directory(objects, fan_out, ignore) as directory:
                for name in [] if directory is None else os.listdir(directory):
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    if len(name) == name_length and stat.S_ISREG(status.st_mode):
                        by_id[ObjectID(bytes.fromhex(fan_out + name))] = status.st_size
                        blocks += status.st_blocks
    return _Sizes(by_id, blocks * BLOCK_SIZE)


REFS_ID: Final = "refs"
"""Names the progress of following refs."""


def _measure_refs(
    marker: Marker, sizes: dict[ObjectID, int], reporter: Reporter = silent
) -> tuple[list[RefStats], RefOwners]:
    """Return what each ref needs, sorted by name, and who needs each object.

    What one ref leads to is let go before the next is followed: of a thousand refs to large trees, memory
    does not hold all.
    """
    refs = sorted(iter_refs(marker))
    owners = RefOwners()
    measured: list[RefStats] = []
    reporter(Started(REFS_ID, len(refs), Unit.ITEMS))
    for index, (name, category, entry) in enumerate(refs):
        live = marker.reach(marker.links_of(category), entry)
        present = [sizes[object_id] for object_id in live if object_id in sizes]
        target, missing = f"{category}/{entry}", len(live) - len(present)
        measured.append(RefStats(name, target, len(present), sum(present), 0, 0, missing))
        owners.add(measured[-1].kind_and_name()[0], live)
        reporter(Advanced(REFS_ID, index + 1, len(refs)))
    reporter(Done(REFS_ID, len(refs)))
    return _add_exclusive(measured, sizes, owners), owners


def _add_exclusive(refs: list[RefStats], sizes: dict[ObjectID, int], owners: RefOwners) -> list[RefStats]:
    """Return refs with what only they lead to."""
    objects, total = [0] * len(refs), [0] * len(refs)
    for object_id, index in owners.first.items():
        if object_id in sizes and object_id not in owners.further:
            objects[index] += 1
            total[index] += sizes[object_id]
    return [
        ref._replace(exclusive_objects=objects[index], exclusive_bytes=total[index])
        for index, ref in enumerate(refs)
    ]
