"""Work on the tree of the new commit that can be done early, while files are on their way.

Most files of an update are those of its base. Their nodes are made in pieces whenever there is nothing else
to do; the process that makes the image is forked later, and has them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.ostree.tree.leaves import Leaves

if TYPE_CHECKING:
    from cfsctl.ostree.objects.held_objects import Lender, Table
    from cfsctl.ostree.tree.xattr_names import XattrNames

_WORTH_IT: Final = 4000
"""Objects of a base from which on this is worth the trouble."""

_STEP: Final = 2048
"""Files at a time: some milliseconds, after which what has arrived is taken."""


class Preparation:
    """What is made early for the tree of one commit.

    Attributes:
        leaves: The nodes of files so far.
    """

    def __init__(self, xattr_names: XattrNames) -> None:
        """Make nothing yet."""
        self.leaves = Leaves(xattr_names)
        self._base: Lender | None = None
        self._table: Table | None = None
        self._done = 0

    def offer(self, base: Lender, count: int) -> None:
        """Take a base that is proven, and has so many objects; the largest one counts."""
        if self._table is None and count >= _WORTH_IT:
            self._base = base

    @property
    def has_more(self) -> bool:
        """Whether there is something to do."""
        return self._base is not None

    def step(self) -> bool:
        """Do some of it; return whether there was something to do."""
        if self._base is None:
            return False
        if self._table is None:
            self._table = self._base.table
        end = self._done + _STEP
        self.leaves.prepare(self._table, self._done, end)
        self._done = end
        if end >= len(self._table.checksums):
            self._base = None
        return True
