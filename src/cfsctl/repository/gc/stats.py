"""Statistics: the size of a repository, how much each ref needs, and what a collection would free.

For each ref: the objects that are reachable from it, and how many of them are reachable from nothing else.
The latter would be freed by removing the ref and collecting. Objects are looked at by directory, so that
memory does not grow with all of them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cfsctl.errors import CfsError
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.gc.mark import Marker
from cfsctl.repository.gc.needs import PART, Needs
from cfsctl.repository.gc.sweep import FAN_OUT, open_directory
from cfsctl.repository.names.tags import unescape_tag
from cfsctl.repository.objects.quarantine import QUARANTINE
from cfsctl.splitstream.reader import Inline

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.repository.repository import Repository

BLOCK_SIZE = 512
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


def ignore(_problem: str) -> None:
    """Ignore a problem, which a collection reports."""


_Size: TypeAlias = tuple[int, int]
"""Size in bytes, and blocks."""


class _Totals(NamedTuple):
    """What all objects take."""

    objects: int
    bytes: int
    allocated_bytes: int


def measure_repository(repository: Repository) -> Stats:
    """Return what is known about a repository; changes nothing.

    Raises:
        OSError: A directory cannot be read, or there is no room for a temporary file.
    """
    marker = Marker(repository)
    totals, refs = _measure_refs(marker, repository)
    garbage = collect_garbage(repository, dry_run=True)
    stream_bytes, stream_inline_bytes = measure_streams(marker, repository)
    return Stats(
        objects=totals.objects,
        bytes=totals.bytes,
        allocated_bytes=totals.allocated_bytes,
        images=len(marker.images.entries),
        streams=len(marker.streams.entries),
        stream_bytes=stream_bytes,
        stream_inline_bytes=stream_inline_bytes,
        garbage_objects=garbage.objects_removed,
        garbage_bytes=garbage.bytes_removed,
        quarantined=count_quarantined(repository.dirfd),
        refs=refs,
        problems=list(garbage.problems),
    )


def measure_refs(repository: Repository) -> list[RefStats]:
    """Return what each ref needs, sorted by name; changes nothing.

    Reads every image and stream that a ref leads to.

    Raises:
        OSError: As `measure_repository`.
    """
    return _measure_refs(Marker(repository), repository)[1]


def _iter_sizes(repository: Repository) -> Iterator[tuple[int, dict[bytes, _Size]]]:
    """Yield the first byte of IDs, and size and blocks of their objects; skips what is not an object.

    Objects are named by a part of their IDs, as in `Needs`.
    """
    name_length = 2 * (repository.algorithm.digest_size - 1)
    with open_directory(repository.dirfd, "objects", ignore) as objects:
        for first, fan_out in enumerate(FAN_OUT):
            if objects is None:
                yield first, {}
                continue
            with open_directory(objects, fan_out, ignore) as directory:
                yield first, {} if directory is None else _read_sizes(directory, name_length)


def _read_sizes(directory: int, name_length: int) -> dict[bytes, _Size]:
    sizes: dict[bytes, _Size] = {}
    digits = slice(0, 2 * (PART.stop - PART.start))
    for name in os.listdir(directory):
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
        if len(name) == name_length and stat.S_ISREG(status.st_mode):
            sizes[bytes.fromhex(name[digits])] = (status.st_size, status.st_blocks)
    return sizes


_SHARED: Final = -1
"""In place of the number of the one ref that an object is needed by."""


def measure_streams(marker: Marker, repository: Repository) -> tuple[int, int]:
    """Return how large the streams are that can be read, as stored and when decompressed."""
    stored = inline = 0
    for object_id in set(marker.streams.entries.values()):
        status = repository.objects.stat(object_id)
        if status is None:
            continue
        try:
            with repository.streams.open_object(object_id) as reader:
                data = sum(len(chunk.data) for chunk in reader.iter_chunks() if isinstance(chunk, Inline))
        except (CfsError, OSError):
            continue  # the collection says what is wrong
        stored += status.st_size
        inline += data
    return stored, inline


def _measure_refs(marker: Marker, repository: Repository) -> tuple[_Totals, list[RefStats]]:
    """Return what all objects take, and what each ref needs, sorted by name."""
    refs = sorted(iter_refs(marker))
    counters = [_RefCounter() for _ in refs]
    objects = size = blocks = 0
    with Needs() as needs:
        for number, (_, category, entry) in enumerate(refs):
            needs.add(number, marker.reach(marker.links_of(category), entry))
        for first, sizes in _iter_sizes(repository):
            objects += len(sizes)
            size += sum(found[0] for found in sizes.values())
            blocks += sum(found[1] for found in sizes.values())
            _count(needs.records(first), sizes, counters)
    found = [
        counter.as_stats(name, f"{category}/{entry}")
        for (name, category, entry), counter in zip(refs, counters, strict=True)
    ]
    return _Totals(objects, size, blocks * BLOCK_SIZE), found


def iter_refs(marker: Marker) -> Iterator[tuple[str, str, str]]:
    """Yield the path of each ref, the name of its category, and its entry."""
    for links in (marker.images, marker.streams):
        category = links.category.name
        for ref in links.category.list_refs():
            if ref.entry in links.entries:
                yield f"{category}/refs/{ref.name}", category, ref.entry


@dataclass(slots=True)
class _RefCounter:
    """Counts what one ref needs; attributes are those of `RefStats`."""

    objects: int = 0
    bytes: int = 0
    exclusive_objects: int = 0
    exclusive_bytes: int = 0
    missing: int = 0

    def as_stats(self, name: str, target: str) -> RefStats:
        return RefStats(
            name=name,
            target=target,
            objects=self.objects,
            bytes=self.bytes,
            exclusive_objects=self.exclusive_objects,
            exclusive_bytes=self.exclusive_bytes,
            missing=self.missing,
        )


def _count(
    records: list[tuple[bytes, int]], sizes: Mapping[bytes, _Size], counters: list[_RefCounter]
) -> None:
    """Count the objects of one directory for all refs that need them."""
    owners: dict[bytes, int] = {}
    for part, number in records:
        owners[part] = number if part not in owners else _SHARED
    for part, number in records:
        counter, found = counters[number], sizes.get(part)
        if found is None:
            counter.missing += 1
            continue
        counter.objects += 1
        counter.bytes += found[0]
        if owners[part] == number:
            counter.exclusive_objects += 1
            counter.exclusive_bytes += found[0]


def count_quarantined(dirfd: int) -> int:
    """Return how many things repairs put into quarantine, as far as this user may see."""
    try:
        with open_directory(dirfd, QUARANTINE, ignore) as fd:
            return 0 if fd is None else len(os.listdir(fd))
    except PermissionError:  # another user's
        return 0
