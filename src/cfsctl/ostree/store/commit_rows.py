"""The rows of a commit's stream: one for each object, in the order of their checksums.

Most rows of an update are those of the commit that it was made from. So where objects were lent by a stored
commit (`HeldObjects.lend`), whole runs of its rows are copied, with all of their data at once. The result is
the same, byte for byte.
"""

from __future__ import annotations

import itertools
from bisect import bisect_left
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.ostree.objects.held_objects import NO_OBJECT, HeldObjects

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects.held_objects import Lender, Table
    from cfsctl.ostree.objects.stored_content import StoredContent

_ALIGNMENT: Final = 8
_PADDING: Final = tuple(bytes(-size % _ALIGNMENT) for size in range(_ALIGNMENT))
"""What follows data whose size modulo 8 is the index."""

_BATCH_BYTES: Final = 1 << 17
"""Bytes of objects whose data are joined before they are compressed."""

_WORTH_MERGING: Final = 0.5
"""Part of the objects that one commit must have lent."""


class Rows(NamedTuple):
    """What is written of the objects.

    Attributes:
        checksums: Names, ascending.
        sizes: How many bytes of data each has.
        ids: The object that is the content, or None.
        batches: The data of all, each padded.
    """

    checksums: Sequence[Checksum]
    sizes: Sequence[int]
    ids: Sequence[ObjectID | None]
    batches: Iterator[bytes | memoryview]


def gather_rows(objects: Mapping[Checksum, StoredContent]) -> Rows:
    """Return the rows of all objects."""
    if isinstance(objects, HeldObjects) and (lender := _find_lender(objects)) is not None:
        table = lender.table
        if _is_plain(table):
            return _merge(objects, lender, table)
    checksums = sorted(objects)
    return Rows(
        checksums,
        [len(objects[checksum][0]) for checksum in checksums],
        [objects[checksum][1] for checksum in checksums],
        _iter_data(checksums, objects),
    )


def _find_lender(objects: HeldObjects) -> Lender | None:
    """Return the commit that has lent most of the objects, if there is one."""
    counts = objects.count_lent()
    lender = max(counts, key=lambda one: counts[one], default=None)
    return lender if lender is not None and counts[lender] > len(objects) * _WORTH_MERGING else None


def _is_plain(table: Table) -> bool:
    """Return whether data follow one another, in the order of the rows and with zeros between them.

    Streams of other programs may have them in any place.
    """
    units = [(size + _ALIGNMENT - 1) // _ALIGNMENT for size in table.sizes]
    starts = list(itertools.accumulate(units, initial=0))
    end = starts.pop()
    if list(table.starts) != starts or len(table.data) != end * _ALIGNMENT:
        return False
    data = table.data
    padding = b"".join(
        [
            data[start * _ALIGNMENT + size : (start + (size + 7) // 8) * _ALIGNMENT]
            for start, size in zip(starts, table.sizes, strict=True)
            if size % _ALIGNMENT
        ]
    )
    return padding.count(0) == len(padding)


class _Run(NamedTuple):
    """Rows of the lender that are taken over, and the object that comes behind them, if there is one."""

    first: int
    end: int
    other: Checksum | None


def _find_runs(names: Sequence[Checksum], objects: HeldObjects, lender: Lender) -> list[_Run]:
    """Return what the rows are made of, in order."""
    dropped = [(place, None) for place in objects.find_not_lent(names, lender)]
    others = [(bisect_left(names, name), name) for name in sorted(objects.list_not_of(lender))]
    # At one place the others come first, in order, before what has been dropped there is left out.
    steps = sorted([*others, *dropped], key=lambda step: (step[0], step[1] is None))
    runs: list[_Run] = []
    first = 0
    for place, name in steps:
        runs.append(_Run(first, place, name))
        first = place if name is not None else place + 1
    runs.append(_Run(first, len(names), None))
    return runs


def _merge(objects: HeldObjects, lender: Lender, table: Table) -> Rows:
    """Return the rows of objects of which most were lent by one commit."""
    runs = _find_runs(table.checksums, objects, lender)
    checksums: list[Checksum] = []
    sizes: list[int] = []
    ids: list[ObjectID | None] = []
    refs: list[ObjectID | None] = [*table.refs, None]  # the last for what has no object
    numbers = [-1 if number == NO_OBJECT else number for number in table.numbers]
    known = list(map(refs.__getitem__, numbers))
    for first, end, other in runs:
        checksums += table.checksums[first:end]
        sizes += table.sizes[first:end]
        ids += known[first:end]
        if other is not None:
            data, object_id = objects[other]
            checksums.append(other)
            sizes.append(len(data))
            ids.append(object_id)
    return Rows(checksums, sizes, ids, _iter_merged(runs, objects, table))


def _iter_merged(runs: Iterable[_Run], objects: HeldObjects, table: Table) -> Iterator[bytes | memoryview]:
    starts = [*table.starts, len(table.data) // _ALIGNMENT]
    for first, end, other in runs:
        if first < end:
            yield table.data[starts[first] * _ALIGNMENT : starts[end] * _ALIGNMENT]
        if other is not None:
            data = objects[other][0]
            yield data
            yield _PADDING[len(data) % _ALIGNMENT]


def _iter_data(checksums: Sequence[Checksum], objects: Mapping[Checksum, StoredContent]) -> Iterator[bytes]:
    """Yield the data of all objects with its padding, some objects at a time."""
    parts: list[bytes] = []
    size = 0
    for checksum in checksums:
        data = objects[checksum][0]
        size += len(data)
        if size > _BATCH_BYTES:  # large data must not be held a second time
            yield b"".join(parts)
            yield data
            parts = []
            size = 0
        else:
            parts.append(data)
        if padding := _PADDING[len(data) % _ALIGNMENT]:
            parts.append(padding)
    yield b"".join(parts)
