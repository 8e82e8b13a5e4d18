"""Compute the size of a tree of dirtrees without expanding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from cfsctl.limits import MAX_IMAGE_BYTES
from cfsctl.ostree.limits import LimitError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.limits import PlanLimits
    from cfsctl.ostree.objects import Dirtree

_DIRECTORY_COST: Final = 8
"""Entries of files that cost as much memory as a directory does."""

_DIRENT_BYTES: Final = 12
_INODE_BYTES: Final = 32
"""What an entry takes in an image besides its name, and a directory besides its entries; at least."""


class _Node(NamedTuple):
    """A dirtree: entries, their cost, the least bytes in an image, and the directories in it."""

    entries: int
    cost: int
    image_bytes: int
    children: list[Checksum]


class _Total(NamedTuple):
    """The same of everything from a dirtree down, and how deep that is."""

    entries: int
    cost: int
    image_bytes: int
    depth: int


class TreeGraph:
    """Entries and depth of a tree, computed from dirtrees that are each known once.

    A tree of n levels in which every directory holds the next one twice has n dirtrees and 2^n paths. Trees
    share subtrees, but not like that: what a tree comes to may be much more than its dirtrees, up to
    `PlanLimits.max_shared_cost`, or a few times as much as they are, but not both.
    """

    def __init__(self, limits: PlanLimits, what: str) -> None:
        """Begin empty; `what` is what messages call the tree."""
        self._limits = limits
        self._what = what
        self._nodes: dict[Checksum, _Node] = {}
        self._distinct = self._distinct_cost = 0

    def add(self, checksum: Checksum, tree: Dirtree, *, is_more: bool = False) -> None:
        """Take a dirtree.

        Args:
            checksum: Its name.
            tree: Its entries.
            is_more: Whether these come in addition to those that were taken before.

        Raises:
            LimitError: The dirtrees have more entries than a whole tree may, each counted once.
        """
        files, dirs = len(tree.files), len(tree.dirs)
        names = sum([len(entry[0]) for entry in tree.files]) + sum([len(entry[0]) for entry in tree.dirs])
        image_bytes = _INODE_BYTES + _DIRENT_BYTES * (files + dirs) + names
        cost = files + _DIRECTORY_COST * dirs
        node = _Node(files + dirs, cost, image_bytes, [entry[1] for entry in tree.dirs])
        if is_more:
            known = self._nodes[checksum]
            node = _Node(
                known.entries + node.entries,
                known.cost + node.cost,
                known.image_bytes + node.image_bytes,
                known.children + node.children,
            )
        self._nodes[checksum] = node
        self._distinct += files + dirs
        self._distinct_cost += cost
        if self._distinct > self._limits.max_entries:
            self._refuse("entries in the whole tree", self._limits.max_entries)

    def check(self, root: Checksum) -> None:
        """Check the totals below `root`, children first, without recursion.

        Every dirtree that `root` reaches must have been added. There are no cycles, as long as checksums
        were verified.

        Raises:
            LimitError: The tree is too large or too deep.
        """
        totals: dict[Checksum, _Total] = {}
        stack = [root]
        while stack:
            checksum = stack[-1]
            node = self._nodes[checksum]
            waiting = {child for child in node.children if child not in totals}
            if waiting and checksum not in totals:
                stack.extend(waiting)
                continue
            stack.pop()
            if checksum not in totals:
                totals[checksum] = self._sum(node, [totals[child] for child in node.children])
        self._check_sharing(totals[root])

    def _sum(self, node: _Node, children: list[_Total]) -> _Total:
        total = _Total(
            node.entries + sum([child.entries for child in children]),
            node.cost + sum([child.cost for child in children]),
            node.image_bytes + sum([child.image_bytes for child in children]),
            1 + max([child.depth for child in children], default=-1),
        )
        if total.entries > self._limits.max_entries:
            self._refuse("entries in the whole tree", self._limits.max_entries)
        if total.depth > self._limits.max_depth:
            self._refuse("nested directories", self._limits.max_depth)
        if total.image_bytes > MAX_IMAGE_BYTES:
            self._refuse("bytes of its image", MAX_IMAGE_BYTES)
        return total

    def _check_sharing(self, total: _Total) -> None:
        """Refuse a tree that a small commit multiplies."""
        limits = self._limits
        most = max(limits.max_shared_cost, limits.max_sharing * self._distinct_cost)
        if total.cost > most:
            raise LimitError(
                f"{self._what}: {self._distinct} entries of its directories expand to {total.entries}; "
                f"expected no more than {limits.max_sharing} times as many"
            )

    def _refuse(self, unit: str, limit: int) -> NoReturn:
        raise LimitError(f"{self._what}: expected at most {limit} {unit}, found more")
