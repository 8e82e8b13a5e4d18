"""Which inodes an image has, and in which order.

V0 and V1 number inodes breadth-first: the children of a directory one after the other, before any
grandchild. V2 numbers them depth-first, each directory followed by everything below it. Children are
taken in the byte order of their names. A leaf with several names is numbered where the walk meets its
canonical name: in V2 the first; in V0 and V1 the one that comes first depth-first, which breadth-first may
be a late one.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING

from cfsctl.erofs.faults import NodeFault
from cfsctl.erofs.format import MAX_NAME_LENGTH
from cfsctl.tree.model import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.tree.model import Leaf, Node

Canonical = dict["Node", tuple[Directory, bytes]]
"""Leaves with several names: directory and name under which they are numbered."""


class Listing:
    """The children of a directory in the byte order of their names.

    Attributes:
        names: Their names.
        children: The children themselves.
        subdirectories: Position of each directory among them, and the directory.
    """

    __slots__ = ("children", "names", "subdirectories")

    def __init__(self, entries: Mapping[bytes, Directory | Leaf]) -> None:
        """Sort the entries."""
        self.names = sorted(entries)
        self.children: list[Node] = [entries[name] for name in self.names]
        self.subdirectories = [
            (position, child) for position, child in enumerate(self.children) if isinstance(child, Directory)
        ]


class DirectoryPlan:
    """A directory as its image has it, `.` and `..` included.

    Attributes:
        index: Number of the directory in inode order.
        parent: Number of its parent; root's own for root.
        names: Names in byte order.
        children: Number of the inode that each name leads to.
        nlink: Two, and one for each subdirectory.
    """

    __slots__ = ("children", "index", "names", "nlink", "parent")

    def __init__(self, index: int, parent: int, names: list[bytes]) -> None:
        """Start without children."""
        self.index = index
        self.parent = parent
        self.names = names
        self.children: list[int] = []
        self.nlink = 2

    def add_dots(self) -> None:
        """Put `.` and `..` where they come in byte order, which is not always in front."""
        for name, target in ((b".", self.index), (b"..", self.parent)):
            position = bisect_left(self.names, name)
            self.names.insert(position, name)
            self.children.insert(position, target)


class InodeOrder:
    """The inodes of an image.

    Attributes:
        nodes: One node per inode; the position is the inode's number.
        plans: Directories by number, in inode order.
        links: Link counts of leaves with several names, by number.
    """

    __slots__ = ("links", "nodes", "plans")

    def __init__(self, root: Node) -> None:
        """Start with root."""
        self.nodes: list[Node] = [root]
        self.plans: dict[int, DirectoryPlan] = {}
        self.links: dict[int, int] = {}


class TreeListing:
    """All directories of a tree, sorted and checked.

    Attributes:
        root: The root directory.
        listings: Children by directory.
        link_counts: How many names each leaf with several names has.
    """

    __slots__ = ("link_counts", "listings", "root")

    def __init__(self, root: Directory, root_entries: Mapping[bytes, Directory | Leaf]) -> None:
        """List the tree.

        Args:
            root: Its root.
            root_entries: What root holds in the image, which may be more than in the tree.

        Raises:
            NodeFault: A name that no directory can hold.
            ValueError: A directory is entered in more than one place.
        """
        self.root = root
        self.listings: dict[Directory, Listing] = {}
        everything: list[Node] = []
        pending: list[Directory] = [root]
        while pending:
            directory = pending.pop()
            if directory in self.listings:
                raise ValueError("a directory occurs twice in the tree")
            listing = Listing(root_entries if directory is root else directory.entries)
            check_names(directory, listing.names)
            self.listings[directory] = listing
            everything += listing.children
            pending += [child for _, child in listing.subdirectories]
        self.link_counts: dict[Node, int] = {}
        if len(set(everything)) != len(everything):
            self.link_counts = {leaf: count for leaf, count in Counter(everything).items() if count > 1}


def check_names(directory: Directory, names: list[bytes]) -> None:
    """Check the sorted names of one directory.

    Raises:
        NodeFault: One that no path can lead to, or that is too long.
    """
    if not names:
        return
    joined = b"/".join(names)
    if joined.count(b"/") != len(names) - 1 or b"\0" in joined or not names[0]:
        wrong = next(name for name in names if not name or b"/" in name or b"\0" in name)
        raise NodeFault(directory, f"entry {wrong!r} has a name that no path can lead to", "dirent")
    if len(joined) > MAX_NAME_LENGTH:
        longest = max(names, key=len)
        if len(longest) > MAX_NAME_LENGTH:
            raise NodeFault(
                directory,
                f"the name {longest[:20]!r}... has {len(longest)} bytes, more than {MAX_NAME_LENGTH}",
                "dirent",
            )
    if names[0] <= b"..":
        for dots in (b".", b".."):
            if dots in names:
                raise NodeFault(directory, f"an entry is called {dots.decode()!r}", "dirent")


def order_breadth_first(tree: TreeListing, canonical: Canonical) -> InodeOrder:
    """Return the inodes in the order of V0 and V1."""
    order = InodeOrder(tree.root)
    nodes = order.nodes
    numbers: dict[Node, int] = {}
    postponed: list[tuple[DirectoryPlan, int, Node]] = []
    queue: list[tuple[Directory, int, int]] = [(tree.root, 0, 0)]
    for directory, index, parent in queue:
        listing = tree.listings[directory]
        children = listing.children
        plan = order.plans[index] = DirectoryPlan(index, parent, listing.names)
        plan.nlink += len(listing.subdirectories)
        first = len(nodes)
        if not canonical or canonical.keys().isdisjoint(children):
            nodes += children
            plan.children = list(range(first, len(nodes)))
        else:
            for position, child in enumerate(children):
                plan.children.append(len(nodes))
                if child not in canonical:
                    nodes.append(child)
                elif canonical[child] == (directory, listing.names[position]):
                    numbers[child] = len(nodes)
                    nodes.append(child)
                else:
                    postponed.append((plan, position, child))
        queue += [(child, plan.children[position], index) for position, child in listing.subdirectories]
    for plan, position, leaf in postponed:
        plan.children[position] = numbers[leaf]
    _finish(order, tree, numbers)
    return order


def order_depth_first(tree: TreeListing) -> InodeOrder:
    """Return the inodes in the order of V2."""
    order = InodeOrder(tree.root)
    nodes = order.nodes
    numbers: dict[Node, int] = {}
    linked = tree.link_counts

    def enter(directory: Directory, index: int, parent: int) -> tuple[DirectoryPlan, Iterator[Node]]:
        listing = tree.listings[directory]
        plan = order.plans[index] = DirectoryPlan(index, parent, listing.names)
        plan.nlink += len(listing.subdirectories)
        return plan, iter(listing.children)

    stack = [enter(tree.root, 0, 0)]
    while stack:
        plan, children = stack[-1]
        for child in children:
            index = len(nodes)
            if child in linked:
                index = numbers.setdefault(child, index)
            plan.children.append(index)
            if index == len(nodes):
                nodes.append(child)
                if isinstance(child, Directory):
                    stack.append(enter(child, index, plan.index))
                    break
        else:
            stack.pop()
    _finish(order, tree, numbers)
    return order


def find_canonical(tree: TreeListing) -> Canonical:
    """Return where leaves with several names come first, depth-first and in the byte order of names."""
    canonical: Canonical = {}
    linked = tree.link_counts
    if not linked:
        return canonical
    pending: list[Iterator[tuple[Directory, bytes, Node]]] = [_entries(tree, tree.root)]
    while pending:
        for directory, name, child in pending[-1]:
            if isinstance(child, Directory):
                pending.append(_entries(tree, child))
                break
            if child in linked:
                canonical.setdefault(child, (directory, name))
        else:
            pending.pop()
    return canonical


def _entries(tree: TreeListing, directory: Directory) -> Iterator[tuple[Directory, bytes, Node]]:
    listing = tree.listings[directory]
    return ((directory, name, child) for name, child in zip(listing.names, listing.children, strict=True))


def _finish(order: InodeOrder, tree: TreeListing, numbers: Mapping[Node, int]) -> None:
    order.links = {number: tree.link_counts[leaf] for leaf, number in numbers.items()}
    for plan in order.plans.values():
        plan.add_dots()
