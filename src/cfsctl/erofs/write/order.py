"""The inodes of an image and their order.

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

from cfsctl.erofs.format import DIRENT, MAX_DEPTH, MAX_NAME_LENGTH
from cfsctl.erofs.node_errors import NodeFault
from cfsctl.tree.model import Directory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.tree.model import Leaf, Node

Canonical = dict["Node", tuple[Directory, bytes]]
"""Leaves with several names: directory and name under which they are numbered."""


class DirectoryPlan:
    """A directory and its place among the inodes.

    Attributes:
        directory: The directory.
        index: Number of the directory in inode order.
        parent: Number of its parent; root's own for root.
        names: Names of its children in byte order.
        lengths: Their lengths.
        joined: All names one behind the other.
        nodes: The children.
        subdirectories: Position of each directory among them, and the directory.
        children: Numbers of the children; empty where they are consecutive.
        first: Number of the first child where they are.
    """

    __slots__ = (
        "children",
        "directory",
        "first",
        "index",
        "joined",
        "lengths",
        "names",
        "nodes",
        "parent",
        "subdirectories",
    )

    def __init__(
        self,
        directory: Directory,
        entries: Mapping[bytes, Directory | Leaf],
        index: int,
        parent: int,
        first: int,
    ) -> None:
        """Sort and check the entries.

        Raises:
            NodeFault: A name that no path can lead to, or that is too long.
        """
        self.directory = directory
        self.index = index
        self.parent = parent
        self.first = first
        self.children: list[int] = []
        found = list(entries)
        self.names = names = sorted(found)
        # Most sources of trees have names in order already.
        self.nodes: list[Node] = (
            list(entries.values()) if found == names else [entries[name] for name in names]
        )
        self.lengths = list(map(len, names))
        self.joined = b"".join(names)
        if found and (
            not self.lengths[0]
            or b"/" in self.joined
            or b"\0" in self.joined
            or max(self.lengths) > MAX_NAME_LENGTH
            or self.names[0] <= b".."
        ):
            _check_names(directory, self.names)
        self.subdirectories = [
            (position, child) for position, child in enumerate(self.nodes) if isinstance(child, Directory)
        ]

    @property
    def nlink(self) -> int:
        """Two, and one for each subdirectory."""
        return 2 + len(self.subdirectories)

    @property
    def dots_in_front(self) -> bool:
        """Whether `.` and `..` come before all names, as they nearly always do."""
        return not self.names or self.names[0] > b".."

    @property
    def size(self) -> int:
        """Bytes of all entries, if they are stored in one chunk."""
        return DIRENT.size * (len(self.names) + 2) + len(self.joined) + 3

    def with_dots(self) -> tuple[list[bytes], list[int]]:
        """Return names and numbers with `.` and `..` among them."""
        names = self.names[:]
        numbers = self.children or list(range(self.first, self.first + len(names)))
        numbers = numbers[:]
        for name, target in ((b".", self.index), (b"..", self.parent)):
            position = bisect_left(names, name)
            names.insert(position, name)
            numbers.insert(position, target)
        return names, numbers


def _check_names(directory: Directory, names: list[bytes]) -> None:
    for name in names:
        if name in {b"", b".", b".."} or b"/" in name or b"\0" in name:
            raise NodeFault(directory, f"entry {name!r} has a name that no path can lead to", "dirent")
        if len(name) > MAX_NAME_LENGTH:
            raise NodeFault(
                directory,
                f"the name {name[:20]!r}... has {len(name)} bytes, more than {MAX_NAME_LENGTH}",
                "dirent",
            )


class InodeOrder:
    """The inodes of an image.

    Attributes:
        nodes: One node per inode; the position is the inode's number.
        plans: Directories by number, in inode order.
        links: Link counts of leaves with several names, by number.
    """

    __slots__ = ("links", "nodes", "plans")

    def __init__(self, nodes: list[Node], plans: dict[int, DirectoryPlan], links: dict[int, int]) -> None:
        """Keep the lists."""
        self.nodes = nodes
        self.plans = plans
        self.links = links


class TreeListing:
    """All directories of a tree, sorted, checked and numbered breadth-first.

    The numbers hold if no leaf has several names.

    Attributes:
        root: The root directory.
        plans: Directories, breadth-first.
        nodes: Root, and the children of all directories, each as often as it has names.
        link_counts: How many names each leaf with several names has.
    """

    __slots__ = ("link_counts", "nodes", "plans", "root")

    def __init__(self, root: Directory, root_entries: Mapping[bytes, Directory | Leaf]) -> None:
        """List the tree.

        Args:
            root: Its root.
            root_entries: What root holds in the image, which may be more than in the tree.

        Raises:
            NodeFault: A name that no directory can hold, or directories nested too deep to be read again.
            ValueError: A directory is entered in more than one place.
        """
        self.root = root
        self.plans: dict[Directory, DirectoryPlan] = {}
        self.nodes: list[Node] = [root]
        nodes = self.nodes
        queue: list[tuple[Directory, int, int]] = [(root, 0, 0)]
        depth, level_end = 0, 1
        for position, (directory, index, parent) in enumerate(queue):
            if position == level_end:
                # Breadth-first: everything behind is one level deeper.
                depth, level_end = depth + 1, len(queue)
                if depth >= MAX_DEPTH:
                    raise NodeFault(
                        directory, f"nested deeper than {MAX_DEPTH - 1} directories below the root", "depth"
                    )
            if directory in self.plans:
                raise ValueError("a directory occurs twice in the tree")
            first = len(nodes)
            entries = root_entries if directory is root else directory.entries
            plan = self.plans[directory] = DirectoryPlan(directory, entries, index, parent, first)
            nodes += plan.nodes
            if plan.subdirectories:
                queue += [(child, first + place, index) for place, child in plan.subdirectories]
        self.link_counts: dict[Node, int] = {}
        if len(set(nodes)) != len(nodes):
            self.link_counts = {leaf: count for leaf, count in Counter(nodes).items() if count > 1}


def order_breadth_first(tree: TreeListing, canonical: Canonical) -> InodeOrder:
    """Return the inodes in the order of V0 and V1."""
    if not tree.link_counts:
        return InodeOrder(tree.nodes, {plan.index: plan for plan in tree.plans.values()}, {})
    nodes: list[Node] = [tree.root]
    numbers: dict[Node, int] = {}
    postponed: list[tuple[DirectoryPlan, int, Node]] = []
    for directory, plan in tree.plans.items():
        for position, child in enumerate(plan.nodes):
            plan.children.append(len(nodes))
            if child in canonical:
                if canonical[child] != (directory, plan.names[position]):
                    postponed.append((plan, position, child))
                    continue
                numbers[child] = len(nodes)
            nodes.append(child)
        for position, subdirectory in plan.subdirectories:
            below = tree.plans[subdirectory]
            below.index, below.parent = plan.children[position], plan.index
    for plan, position, leaf in postponed:
        plan.children[position] = numbers[leaf]
    return _finish(nodes, tree, numbers)


def order_depth_first(tree: TreeListing) -> InodeOrder:
    """Return the inodes in the order of V2."""
    nodes: list[Node] = [tree.root]
    numbers: dict[Node, int] = {}
    linked = tree.link_counts
    root = tree.plans[tree.root]
    stack = [(root, iter(root.nodes))]
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
                    below = tree.plans[child]
                    below.index, below.parent = index, plan.index
                    stack.append((below, iter(below.nodes)))
                    break
        else:
            stack.pop()
    return _finish(nodes, tree, numbers)


def find_canonical(tree: TreeListing) -> Canonical:
    """Return where leaves with several names come first, depth-first and in the byte order of names."""
    canonical: Canonical = {}
    linked = tree.link_counts
    if not linked:
        return canonical
    pending = [_entries(tree, tree.root)]
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
    plan = tree.plans[directory]
    return ((directory, name, child) for name, child in zip(plan.names, plan.nodes, strict=True))


def _finish(nodes: list[Node], tree: TreeListing, numbers: Mapping[Node, int]) -> InodeOrder:
    plans = {plan.index: plan for plan in sorted(tree.plans.values(), key=lambda plan: plan.index)}
    links = {number: tree.link_counts[leaf] for leaf, number in numbers.items()}
    return InodeOrder(nodes, plans, links)
