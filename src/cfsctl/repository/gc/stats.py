"""Statistics: the size of a repository, how much each ref needs, and what a collection would free.

For each ref: the objects that are reachable from it, and how many of them are reachable from nothing else.
The latter would be freed by removing the ref and collecting.
"""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.errors import CfsError
from cfsctl.progress import Advanced, Done, Started, Unit, silent
from cfsctl.repository.gc.collect import find_garbage
from cfsctl.repository.gc.mark import Marker
from cfsctl.repository.gc.sweep import FAN_OUT, open_directory
from cfsctl.repository.names.tags import unescape_tag
from cfsctl.repository.objects.quarantine import QUARANTINE
from cfsctl.splitstream.reader import Inline

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.progress import Reporter
    from cfsctl.repository.gc.collect import FoundGarbage
    from cfsctl.repository.gc.mark import CategoryMarks
    from cfsctl.repository.repository import Repository

_BLOCK_SIZE = 512
"""Unit of st_blocks, independent of the file system's block size."""


class RefStats(NamedTuple):
    """What one ref needs.

    Attributes:
        name: ``images/refs/...`` or ``streams/refs/...``.
        target: The entry that it names.
        objects: Existing objects that are reachable from it.
        bytes: Their sizes.
        exclusive_objects: Those that no other ref leads to.
        exclusive_bytes: Their sizes.
        missing: Missing objects that are reachable from it.
    """

    name: str
    target: str
    objects: int
    bytes: int
    exclusive_objects: int
    exclusive_bytes: int
    missing: int

    def kind_and_name(self) -> tuple[str, str]:
        """Return what kind of ref it is, and the name that users know it by.

        An earlier target of a ref is ``kept`` and has the name of that ref.
        """
        category, _, path = self.name.partition("/refs/")
        parts = path.split("/")
        if category == "images":
            return "image", path
        if parts[0] in _TAG_KINDS and len(parts) > 1:
            return _TAG_KINDS[parts[0]], unescape_tag("/".join(parts[1:]))
        if parts[0] == "cfsctl-history" and len(parts) == 4:
            return "kept", unescape_tag(parts[2])
        return "stream", path


_TAG_KINDS: Final = {
    "ostree": "commit",
    "ostree-partial": "part",
    "oci": "oci",
    "oci-referrers": "artifact",
}
"""What refs are called that are in a directory."""


class Stats(NamedTuple):
    """What is known about a repository.

    Attributes:
        objects: Stored objects.
        bytes: Their sizes.
        allocated_bytes: What they take on the disk, as far as the file system tells; blocks that files
            share count for each.
        images: Entries below ``images``.
        streams: Entries below ``streams``.
        stream_bytes: Sizes of the streams that entries name, as they are stored.
        stream_inline_bytes: The data in them, when it is not compressed any more; what they refer to does not
            count.
        garbage_objects: Objects that a collection would remove.
        garbage_bytes: Their sizes.
        quarantined: Things that repairs put into quarantine.
        refs: What each ref needs, sorted by name.
        problems: What could not be read; numbers of refs are too low then.
    """

    objects: int
    bytes: int
    allocated_bytes: int
    images: int
    streams: int
    stream_bytes: int
    stream_inline_bytes: int
    garbage_objects: int
    garbage_bytes: int
    quarantined: int
    refs: list[RefStats]
    problems: list[str]

    def as_dict(self) -> dict[str, object]:
        """Return all of it as it is printed in JSON, in the order of its keys."""
        refs = []
        for ref in self.refs:
            kind, tag = ref.kind_and_name()
            shared = ref.bytes - ref.exclusive_bytes
            refs.append({**ref._asdict(), "shared_bytes": shared, "kind": kind, "tag": tag})
        return {**self._asdict(), "refs": refs}


def _ignore(_problem: str) -> None:
    """Leave to a collection to say what is wrong."""


class RefOwners:
    """Which refs lead to each object, by their places in the list of refs.

    Attributes:
        first: One of the refs for each object that any leads to.
        further: How many others there are, for objects that several lead to.
        mixed: Objects that refs of more than one kind lead to.
        kinds: The kind of each ref.
    """

    def __init__(self) -> None:
        """Know of no object."""
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


def measure_repository(repository: Repository) -> Stats:
    """Return what is known about a repository; changes nothing.

    Raises:
        OSError: A directory cannot be read.
    """
    return survey_repository(repository).stats


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
    stream_bytes, stream_inline_bytes = _measure_streams(marker, repository, sizes.by_id)
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
        quarantined=_count_quarantined(repository.dirfd),
        refs=refs,
        problems=list(garbage.result.problems),
    )
    return Survey(stats, sizes.by_id, owners, garbage, marker)


def measure_refs(repository: Repository) -> list[RefStats]:
    """Return what each ref needs, sorted by name; changes nothing.

    Reads every image and stream that a ref leads to.
    """
    return _measure_refs(Marker(repository), _measure_objects(repository).by_id)[0]


def _measure_objects(repository: Repository) -> _Sizes:
    """Return the sizes of all objects; what is not an object is skipped."""
    by_id: dict[ObjectID, int] = {}
    blocks = 0
    name_length = 2 * (repository.algorithm.digest_size - 1)
    with open_directory(repository.dirfd, "objects", _ignore) as objects:
        for fan_out in FAN_OUT if objects is not None else ():
            assert objects is not None
            with open_directory(objects, fan_out, _ignore) as directory:
                for name in [] if directory is None else os.listdir(directory):
                    status = os.stat(name, dir_fd=directory, follow_symlinks=False)
                    if len(name) == name_length and stat.S_ISREG(status.st_mode):
                        by_id[ObjectID(bytes.fromhex(fan_out + name))] = status.st_size
                        blocks += status.st_blocks
    return _Sizes(by_id, blocks * _BLOCK_SIZE)


def _measure_streams(marker: Marker, repository: Repository, sizes: dict[ObjectID, int]) -> tuple[int, int]:
    """Return how large the streams are that can be read, as stored and when decompressed."""
    stored = inline = 0
    for object_id in set(marker.streams.entries.values()) & sizes.keys():
        try:
            with repository.streams.open_object(object_id) as reader:
                data = sum(len(chunk.data) for chunk in reader.iter_chunks() if isinstance(chunk, Inline))
        except (CfsError, OSError):
            continue  # the collection says what is wrong
        stored += sizes[object_id]
        inline += data
    return stored, inline


REFS_ID: Final = "refs"
"""Names the progress of following refs."""


def _measure_refs(
    marker: Marker, sizes: dict[ObjectID, int], reporter: Reporter = silent
) -> tuple[list[RefStats], RefOwners]:
    """Return what each ref needs, sorted by name, and who needs each object.

    What one ref leads to is let go before the next is followed: of a thousand refs to large trees, memory
    does not hold all.
    """
    refs = [
        (name, links, entry) for links in (marker.images, marker.streams) for name, entry in _iter_refs(links)
    ]
    refs.sort(key=lambda ref: ref[0])
    owners = RefOwners()
    measured: list[RefStats] = []
    reporter(Started(REFS_ID, len(refs), Unit.ITEMS))
    for index, (name, links, entry) in enumerate(refs):
        live = marker.reach(links, entry)
        present = [sizes[object_id] for object_id in live if object_id in sizes]
        target, missing = f"{links.category.name}/{entry}", len(live) - len(present)
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


def _iter_refs(links: CategoryMarks) -> Iterable[tuple[str, str]]:
    for ref in links.category.list_refs():
        if ref.entry in links.entries:
            yield f"{links.category.name}/refs/{ref.name}", ref.entry


def _count_quarantined(dirfd: int) -> int:
    try:
        with open_directory(dirfd, QUARANTINE, _ignore) as fd:
            return 0 if fd is None else len(os.listdir(fd))
    except PermissionError:  # another user's
        return 0
