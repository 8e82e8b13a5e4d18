"""Hard links of a dump, which may refer to lines still to come."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.dumpfile.format import DumpfileError, printable
from cfsctl.tree.model import Directory, Leaf

if TYPE_CHECKING:
    from collections.abc import Mapping


class PendingLink(Leaf):
    """Holds the place of a hard link until the line that it refers to has been read."""

    __slots__ = ("directory", "name", "number", "target")
    file_type = 0

    def __init__(self, directory: Directory, name: bytes, target: bytes, number: int) -> None:
        """Store where the link is and where it leads."""
        super().__init__(0)
        self.directory = directory
        self.name = name
        self.target = target
        self.number = number


class HardLinks:
    """Connects hard links with what they refer to.

    Attributes:
        counts: Names of each leaf that has several.
        originals: Directory and name of the full line of such leaves.
    """

    def __init__(self, directories: Mapping[bytes, Directory]) -> None:
        """Take the directories read so far, by path; root is the empty path."""
        self._directories = directories
        self._pending: list[PendingLink] = []
        self.counts: dict[Leaf, int] = {}
        self.originals: dict[Leaf, tuple[Directory, bytes]] = {}

    def add(self, directory: Directory, name: bytes, target: bytes, number: int) -> None:
        """Enter a link into a directory.

        Args:
            directory: Where it is.
            name: Its name there, which is free.
            target: Path that it refers to, without needless slashes.
            number: Number of the line, for messages.

        Raises:
            DumpfileError: It refers to a directory.
        """
        found = self._find(target, number)
        if found is None or isinstance(found, PendingLink):
            link = PendingLink(directory, name, target, number)
            directory.entries[name] = link
            self._pending.append(link)
        else:
            self._connect(directory, name, target, found)

    def resolve(self) -> None:
        """Connect the links that are left, now that all lines have been read.

        Raises:
            DumpfileError: A link leads nowhere, to a directory, or in a circle.
        """
        for first in self._pending:
            chain: dict[PendingLink, None] = {}
            found: Leaf | None = first.directory.entries[first.name]  # type: ignore[assignment]  # a leaf
            while isinstance(found, PendingLink):
                if found in chain:
                    raise DumpfileError(
                        "the hard link leads back to itself", line=first.number, field="PAYLOAD"
                    )
                chain[found] = None
                last, found = found, self._find(found.target, found.number)
                if found is None:
                    raise DumpfileError(
                        f"no file {printable(last.target)} to link to", line=last.number, field="PAYLOAD"
                    )
            for link in reversed(chain):
                self._connect(link.directory, link.name, link.target, found)  # type: ignore[arg-type]  # found

    def _find(self, path: bytes, number: int) -> Leaf | None:
        parent, _, name = path.rpartition(b"/")
        directory = self._directories.get(parent)
        found = directory.entries.get(name) if directory is not None else None
        if isinstance(found, Directory) or path in self._directories:
            raise DumpfileError(f"hard link to directory {printable(path)}", line=number, field="PAYLOAD")
        return found

    def _connect(self, directory: Directory, name: bytes, target: bytes, leaf: Leaf) -> None:
        parent, _, target_name = target.rpartition(b"/")
        self.originals.setdefault(leaf, (self._directories[parent], target_name))
        self.counts[leaf] = self.counts.get(leaf, 1) + 1
        directory.entries[name] = leaf
