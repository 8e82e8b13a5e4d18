"""A table of all objects of a repository, in some thirty bytes for each.

An object is a number in the table. Eight bytes of its ID are kept, after the one that its directory is named
for, as in `cfsctl.repository.gc.live`. Should those of two objects be equal, what is found of either counts
for the first.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from enum import IntFlag
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.digest import ObjectID

ABSENT: Final = -1
"""In place of the number of an object that is not there, and of the ref of an object that none leads to."""

_FAN_OUT: Final = 256
_DIGITS: Final = slice(0, 16)


class Mark(IntFlag):
    """What is known about an object."""

    MIXED = 1
    """Refs of more than one kind lead to it."""
    DEAD = 2
    """A collection would remove it."""
    TAKEN = 4
    """It was counted as garbage of an image or stream."""
    MET = 8
    """It was met in a tree."""
    ENTRY = 16
    """It is an image or a stream that has a name."""


class ObjectTable:
    """All objects, in the order of their IDs.

    Attributes:
        sizes: Size of each in bytes.
        owners: The first ref that leads to each, by its place among the refs, or `ABSENT`.
        further: How many further refs lead to each.
        marks: The `Mark` of each.
    """

    def __init__(self) -> None:
        """Start empty."""
        self._parts: list[array[int]] = []
        self._starts: list[int] = []
        self.sizes = array("q")
        self.owners = array("i")
        self.further = array("I")
        self.marks = bytearray()

    @classmethod
    def from_sizes(cls, sizes: Mapping[ObjectID, int]) -> ObjectTable:
        """Return a table of objects with these sizes."""
        table = cls()
        for first in range(_FAN_OUT):
            names = ((one.hex()[2:], size) for one, size in sizes.items() if one[0] == first)
            table.add_directory(names)
        return table

    def __len__(self) -> int:
        """Return how many objects there are."""
        return len(self.sizes)

    def add_directory(self, objects: Iterable[tuple[str, int]]) -> None:
        """Add the objects of the next directory: their names in there, and their sizes."""
        found = sorted((int(name[_DIGITS], 16), size) for name, size in objects)
        self._starts.append(len(self.sizes))
        self._parts.append(array("Q", [part for part, _ in found]))
        self.sizes.extend(size for _, size in found)
        self.owners.extend([ABSENT] * len(found))
        self.further.extend([0] * len(found))
        self.marks.extend(bytes(len(found)))

    def find(self, object_id: ObjectID) -> int:
        """Return the number of an object, or `ABSENT`."""
        first = object_id[0]
        parts = self._parts[first]
        part = int.from_bytes(object_id[1:9], "big")
        place = bisect_left(parts, part)
        if place < len(parts) and parts[place] == part:
            return self._starts[first] + place
        return ABSENT

    def size_of(self, object_id: ObjectID) -> int:
        """Return the size of an object; 0 if it is not there."""
        number = self.find(object_id)
        return 0 if number == ABSENT else self.sizes[number]

    def has(self, object_id: ObjectID, mark: Mark) -> bool:
        """Return whether an object is there and has a mark."""
        number = self.find(object_id)
        return number != ABSENT and bool(self.marks[number] & mark)

    def mark(self, object_ids: Iterable[ObjectID], mark: Mark) -> None:
        """Give a mark to those objects that are there."""
        for object_id in object_ids:
            number = self.find(object_id)
            if number != ABSENT:
                self.marks[number] |= mark

    def count_refs(self, object_id: ObjectID) -> int:
        """Return how many refs lead to an object."""
        number = self.find(object_id)
        return 0 if number == ABSENT or self.owners[number] == ABSENT else 1 + self.further[number]

    def first_ref(self, object_id: ObjectID) -> int:
        """Return one of the refs that lead to an object, by its place, or `ABSENT`."""
        number = self.find(object_id)
        return ABSENT if number == ABSENT else self.owners[number]
