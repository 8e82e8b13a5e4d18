"""How much of the space is in which directory.

Trees are walked one after the other; each object counts for the first path that it is met at. So the sizes
add up to what the objects take, however many trees share them. Directories below some depth, or beyond some
number, count for the one that they are in.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING, Final

from cfsctl.inspection.storage.model import BlockKind, SpaceBlock
from cfsctl.repository.gc.object_table import ABSENT, Mark
from cfsctl.tree.model import Directory, ExternalFile

if TYPE_CHECKING:
    from collections.abc import Container

    from cfsctl.digest import ObjectID
    from cfsctl.repository.gc.object_table import ObjectTable
    from cfsctl.tree.model import FileSystem

    _Trail = tuple["_Trail", bytes] | None

_MAX_DEPTH: Final = 4
_MAX_DIRECTORIES: Final = 200_000
_MAX_PARTS: Final = 14
"""Parts of one block that are shown; the others are summed up."""

_LEAST_SHARE: Final = 400
"""A part that is smaller than one of so many of the whole is summed up with others."""


class _Node:
    __slots__ = ("below", "objects", "size_bytes")

    def __init__(self) -> None:
        self.below: dict[bytes, _Node] = {}
        self.objects = 0
        self.size_bytes = 0


class DirectorySizes:
    """Adds up the objects of trees by directory.

    Attributes:
        paths: A path for each of the wanted objects that was met.
    """

    def __init__(self, objects: ObjectTable, wanted: Container[ObjectID]) -> None:
        """Have met nothing yet.

        Args:
            objects: The objects that count; those that are met get the mark for that.
            wanted: Objects whose paths are remembered.
        """
        self.paths: dict[ObjectID, bytes] = {}
        self._objects = objects
        self._wanted = wanted
        self._root = _Node()
        self._nodes = 1

    def add(self, tree: FileSystem) -> None:
        """Count the objects of a tree that no tree before it had."""
        pending: list[tuple[Directory, _Node, int, _Trail]] = [(tree.root, self._root, 0, None)]
        sizes, marks, find, wanted = (
            self._objects.sizes,
            self._objects.marks,
            self._objects.find,
            self._wanted,
        )
        while pending:
            directory, node, depth, trail = pending.pop()
            for name, entry in directory.entries.items():
                if isinstance(entry, ExternalFile):
                    object_id = entry.object_id
                    number = find(object_id)
                    if number == ABSENT or marks[number] & Mark.MET:
                        continue
                    marks[number] |= Mark.MET
                    node.objects += 1
                    node.size_bytes += sizes[number]
                    if object_id in wanted:
                        self.paths[object_id] = _join(trail, name)
                elif isinstance(entry, Directory):
                    below = self._enter(node, name, depth)
                    pending.append((entry, below, depth + (below is not node), (trail, name)))

    def _enter(self, node: _Node, name: bytes, depth: int) -> _Node:
        found = node.below.get(name)
        if found is None:
            if depth >= _MAX_DEPTH or self._nodes >= _MAX_DIRECTORIES:
                return node
            found = node.below[name] = _Node()
            self._nodes += 1
        return found

    def blocks(self, whole_bytes: int) -> tuple[SpaceBlock, ...]:
        """Return what is in the root directory, the largest first.

        Args:
            whole_bytes: The space that all of this is a part of; what is small in comparison is summed up.
        """
        return _make_block(self._root, b"/", whole_bytes // _LEAST_SHARE).parts


def _join(trail: _Trail, name: bytes) -> bytes:
    names = [name]
    while trail is not None:
        trail, above = trail
        names.append(above)
    return b"/" + b"/".join(reversed(names))


def _make_block(node: _Node, path: bytes, least_bytes: int) -> SpaceBlock:
    """Return a directory with its parts; it is at most as deep as nodes are made."""
    prefix = path if path.endswith(b"/") else path + b"/"
    below = [_make_block(node.below[name], prefix + name, least_bytes) for name in sorted(node.below)]
    size = node.size_bytes + sum(block.size_bytes for block in below)
    objects = node.objects + sum(block.objects for block in below)
    parts = _choose_parts(below, least_bytes)
    if node.objects and below:
        parts.append(
            SpaceBlock(kind=BlockKind.FILES, path=path, size_bytes=node.size_bytes, objects=node.objects)
        )
    left = size - sum(part.size_bytes for part in parts)
    count = objects - sum(part.objects for part in parts)
    parts.sort(key=lambda part: -part.size_bytes)
    if count and below:
        parts.append(SpaceBlock(kind=BlockKind.REST, path=path, size_bytes=left, objects=count))
    return SpaceBlock(
        kind=BlockKind.DIRECTORY, path=path, size_bytes=size, objects=objects, parts=tuple(parts)
    )


def _choose_parts(blocks: list[SpaceBlock], least_bytes: int) -> list[SpaceBlock]:
    found = heapq.nlargest(_MAX_PARTS, blocks, key=lambda block: block.size_bytes)
    return [block for block in found if block.size_bytes > least_bytes]
