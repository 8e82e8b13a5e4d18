"""How large a tree of dirtrees is, without expanding it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from cfsctl.ostree.limits import LimitError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.limits import PlanLimits
    from cfsctl.ostree.objects import Dirtree


class TreeGraph:
    """Entries and depth of a tree, computed from dirtrees that are each known once.

    A tree of n levels in which every directory holds the next one twice has n dirtrees and 2^n paths.
    """

    def __init__(self, limits: PlanLimits, what: str) -> None:
        """Begin empty; `what` is what messages call the tree."""
        self._limits = limits
        self._what = what
        self._nodes: dict[Checksum, tuple[int, list[Checksum]]] = {}
        self._distinct = 0

    def add(self, checksum: Checksum, tree: Dirtree) -> None:
        """Take a dirtree.

        Raises:
            LimitError: The dirtrees have more entries than a whole tree may, each counted once.
        """
        entries = len(tree.files) + len(tree.dirs)
        self._nodes[checksum] = (entries, [entry[1] for entry in tree.dirs])
        self._distinct += entries
        if self._distinct > self._limits.max_entries:
            self._refuse("entries in the whole tree", self._limits.max_entries)

    def check(self, root: Checksum) -> None:
        """Check the totals below `root`, children first, without recursion.

        Every dirtree that `root` reaches must have been added. There are no cycles, as long as checksums
        were verified.

        Raises:
            LimitError: The tree is too large or too deep.
        """
        totals: dict[Checksum, tuple[int, int]] = {}
        stack = [root]
        while stack:
            checksum = stack[-1]
            entries, children = self._nodes[checksum]
            waiting = {child for child in children if child not in totals}
            if waiting and checksum not in totals:
                stack.extend(waiting)
                continue
            stack.pop()
            if checksum not in totals:
                totals[checksum] = self._sum(entries, [totals[child] for child in children])

    def _sum(self, entries: int, children: list[tuple[int, int]]) -> tuple[int, int]:
        entries += sum(child[0] for child in children)
        depth = 1 + max((child[1] for child in children), default=-1)
        if entries > self._limits.max_entries:
            self._refuse("entries in the whole tree", self._limits.max_entries)
        if depth > self._limits.max_depth:
            self._refuse("nested directories", self._limits.max_depth)
        return entries, depth

    def _refuse(self, unit: str, limit: int) -> NoReturn:
        raise LimitError(f"{self._what}: expected at most {limit} {unit}, found more")
