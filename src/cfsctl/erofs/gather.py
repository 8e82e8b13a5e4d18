"""From a tree to the list of inodes with their attributes; nothing of the tree is changed.

What V0 and V1 add to a tree is added here: the 256 stubs in root, the mark that makes root opaque, and
the marks of whiteouts. A whiteout of the tree becomes a regular file with two marks, since the kernel
would act on a real one; its directory gets marks too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm, object_path
from cfsctl.erofs.faults import NodeFault
from cfsctl.erofs.format import (
    STUB_MODE,
    STUB_NAMES,
    WHITEOUT_ATTRIBUTES,
    WHITEOUTS_ATTRIBUTES,
    WHITEOUTS_OPAQUE_ATTRIBUTES,
    XATTR_METACOPY,
    XATTR_REDIRECT,
    XATTR_ROOT_OPAQUE,
    FormatVersion,
)
from cfsctl.erofs.layout import MAX_SINGLE_CHUNK
from cfsctl.erofs.order import TreeListing, find_canonical, order_breadth_first, order_depth_first
from cfsctl.erofs.sharing import AttributeWriter, metacopy_value, splits_external
from cfsctl.erofs.stubs import is_stub, stub_xattrs
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.dumped import DumpedFileSystem, RedirectedFile
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.erofs.order import InodeOrder
    from cfsctl.erofs.sharing import AttributeSet, Pair
    from cfsctl.tree.model import FileSystem, Leaf, Node

_TIME_MODULUS: Final = 1 << 64
_MAX_MODE: Final = 0o7777
_MAX_NSEC: Final = 999_999_999


class Gathered:
    """All inodes of an image.

    Attributes:
        order: The inodes.
        groups: Attributes of each inode.
        attributes: Where the sets come from.
        escaped: Whiteouts that are written as regular files.
        min_mtime: Smallest modification time of V0 and V1, seconds and nanoseconds.
        algorithm: The hash of the digests in the tree; SHA-256 if there are none.
    """

    __slots__ = ("algorithm", "attributes", "escaped", "groups", "min_mtime", "order")

    def __init__(self, order: InodeOrder, algorithm: Algorithm, attributes: AttributeWriter) -> None:
        """Start without attributes."""
        self.order = order
        self.algorithm = algorithm
        self.attributes = attributes
        self.groups: list[AttributeSet] = []
        self.escaped: set[Node] = set()
        self.min_mtime = (0, 0)


def gather(filesystem: FileSystem, version: FormatVersion, dialect: Dialect) -> Gathered:
    """Return the inodes of an image of this tree.

    Raises:
        NodeFault: Something that no image can hold.
    """
    root = filesystem.root
    stubs: set[Node] = set()
    entries: Mapping[bytes, Directory | Leaf] = root.entries
    if version is not FormatVersion.V2:
        entries, stubs = _with_stubs(root, dialect)
    listing = TreeListing(root, entries)
    if version is FormatVersion.V2:
        order = order_depth_first(listing)
    else:
        order = order_breadth_first(listing, _canonical(filesystem, listing, dialect))
    _check_stat(order.nodes)
    whiteouts = _find_whiteouts(order.nodes, listing.link_counts)
    algorithm = _find_algorithm(order.nodes)
    gathered = Gathered(order, algorithm, AttributeWriter(version, dialect, algorithm))
    _group(gathered, version, dialect)
    if version is not FormatVersion.V2:
        gathered.escaped = {node for node in whiteouts if node not in stubs}
        _mark(gathered, version)
        gathered.min_mtime = _find_min_mtime(order.nodes, dialect)
        if isinstance(filesystem, DumpedFileSystem) and dialect is Dialect.C:
            _apply_nlinks(order, filesystem.nlinks)
    gathered.attributes.settle()
    return gathered


def _with_stubs(root: Directory, dialect: Dialect) -> tuple[Mapping[bytes, Directory | Leaf], set[Node]]:
    """Return root's entries with the stubs among them, and the stubs.

    Only one original takes a whiteout of the tree that looks like a stub for one.
    """
    xattrs = stub_xattrs(root)
    entries: dict[bytes, Directory | Leaf] = dict(root.entries)
    stubs: set[Node] = set()
    for name in STUB_NAMES:
        found = entries.get(name)
        if found is None:
            found = entries[name] = CharDevice(
                0, STUB_MODE, root.uid, root.gid, root.mtime_s, root.mtime_ns, xattrs
            )
            stubs.add(found)
        elif dialect is Dialect.RUST and is_stub(found, root):
            stubs.add(found)
    return entries, stubs


def _canonical(
    filesystem: FileSystem, listing: TreeListing, dialect: Dialect
) -> dict[Node, tuple[Directory, bytes]]:
    canonical = find_canonical(listing)
    if dialect is Dialect.C and isinstance(filesystem, DumpedFileSystem):
        canonical.update((leaf, place) for leaf, place in filesystem.originals.items() if leaf in canonical)
    return canonical


def _check_stat(nodes: list[Node]) -> None:
    """Check what an image would hold without complaint, but not as it is meant.

    Raises:
        NodeFault: A mode with bits of a file type, or nanoseconds of more than a second.
    """
    if max({node.mode for node in nodes}) > _MAX_MODE or max({node.mtime_ns for node in nodes}) > _MAX_NSEC:
        for node in nodes:
            if node.mode > _MAX_MODE:
                raise NodeFault(node, f"mode {node.mode:o} has more than permission bits", "i_mode")
            if node.mtime_ns > _MAX_NSEC:
                raise NodeFault(node, f"{node.mtime_ns} nanoseconds are more than a second", "i_mtime_nsec")


def _find_whiteouts(nodes: list[Node], link_counts: Mapping[Node, int]) -> list[Node]:
    whiteouts: list[Node] = [node for node in nodes if isinstance(node, CharDevice) and node.rdev == 0]
    for node in whiteouts:
        if node in link_counts:
            raise NodeFault(node, f"a whiteout with {link_counts[node]} names; expected one", "i_nlink")
    return whiteouts


def _find_algorithm(nodes: list[Node]) -> Algorithm:
    """Return the hash of all digests.

    Raises:
        NodeFault: A digest of another size than the first, or of no known size.
    """
    sizes = {len(node.object_id) for node in nodes if type(node) is ExternalFile}
    sizes |= {len(node.digest) for node in nodes if type(node) is RedirectedFile and node.digest is not None}
    known = {algorithm.digest_size: algorithm for algorithm in Algorithm}
    if len(sizes) > 1 or not sizes <= known.keys():
        wrong = max(sizes - known.keys() or sizes)
        node = next(n for n in nodes if isinstance(n, ExternalFile) and len(n.object_id) == wrong)
        raise NodeFault(node, f"a digest of {wrong} bytes among digests of {min(sizes)}", "metacopy")
    return known[sizes.pop()] if sizes else Algorithm.SHA256


def _group(gathered: Gathered, version: FormatVersion, dialect: Dialect) -> None:
    """Give each inode its attribute set, marks of the format left out."""
    nodes = gathered.order.nodes
    attributes = gathered.attributes
    add = gathered.groups.append
    repeated = _find_repeated(nodes)
    plain: dict[int, AttributeSet] = {}
    external: dict[int, AttributeSet | None] = {}
    for node in nodes:
        group: AttributeSet | None
        key = id(node.xattrs)
        if type(node) is ExternalFile:
            group = None
            if node.object_id not in repeated and node.has_digest and 0 < node.size <= MAX_SINGLE_CHUNK:
                if key not in external:
                    external[key] = _external_set(attributes, node)
                group = external[key]
            if group is None:
                group = attributes.set_of_pairs(_file_pairs(gathered, node, version, dialect), node)
        elif isinstance(node, SparseFile | RedirectedFile | ExternalFile):
            group = attributes.set_of_pairs(_file_pairs(gathered, node, version, dialect), node)
        else:
            group = plain.get(key)
            if group is None:
                group = plain[key] = attributes.set_of_mapping(node)
        group.users += 1
        add(group)


def _external_set(attributes: AttributeWriter, node: ExternalFile) -> AttributeSet | None:
    return None if splits_external(node.xattrs) else attributes.set_of_mapping(node, is_external=True)


def _find_repeated(nodes: list[Node]) -> set[bytes]:
    """Return the IDs of objects that more than one inode names, whose attributes are therefore shared."""
    ids = [node.object_id for node in nodes if isinstance(node, ExternalFile)]
    if any(isinstance(node, RedirectedFile) for node in nodes):
        return set(ids)  # a payload may be the path of any object
    if len(set(ids)) == len(ids):
        return set()
    return {object_id for object_id, count in Counter(ids).items() if count > 1}


def _file_pairs(
    gathered: Gathered,
    node: ExternalFile | SparseFile | RedirectedFile,
    version: FormatVersion,
    dialect: Dialect,
) -> Iterable[Pair]:
    """Return all attributes of a regular file whose content is elsewhere."""
    own = gathered.attributes.own_pairs(node.xattrs)
    if node.size == 0 and dialect is Dialect.C and version is not FormatVersion.V2:
        return own
    pairs: list[Pair] = []
    match node:
        case ExternalFile(object_id=object_id, has_digest=has_digest):
            digest = object_id if has_digest else None
            path = object_path(object_id).encode()
        case RedirectedFile(digest=digest, path=path):
            pass
        case _:
            digest, path = None, b""
    pairs.append((XATTR_METACOPY, metacopy_value(digest, gathered.algorithm) if digest is not None else b""))
    if path:
        pairs.append((XATTR_REDIRECT, b"/" + path))
    return [*pairs, *own]


def _mark(gathered: Gathered, version: FormatVersion) -> None:
    """Give the marks of V0 and V1 to root, to whiteouts, and to the directories that these are in."""
    marks: dict[int, list[Pair]] = {}
    if gathered.escaped:
        numbers = {number for number, node in enumerate(gathered.order.nodes) if node in gathered.escaped}
        in_directory = [*WHITEOUTS_ATTRIBUTES]
        if version is FormatVersion.V1:
            in_directory += WHITEOUTS_OPAQUE_ATTRIBUTES
        for plan in gathered.order.plans.values():
            if not numbers.isdisjoint(plan.children):
                marks[plan.index] = in_directory
        marks |= {number: list(WHITEOUT_ATTRIBUTES) for number in numbers}
    marks[0] = [*marks.get(0, ()), XATTR_ROOT_OPAQUE]
    attributes = gathered.attributes
    for number, pairs in marks.items():
        node = gathered.order.nodes[number]
        gathered.groups[number].users -= 1
        marked = attributes.set_of_pairs(attributes.replace(attributes.own_pairs(node.xattrs), pairs), node)
        marked.users += 1
        gathered.groups[number] = marked


def _find_min_mtime(nodes: list[Node], dialect: Dialect) -> tuple[int, int]:
    """Return the smallest time; to one original, seconds before 1970 are huge instead of negative."""
    times = {(node.mtime_s, node.mtime_ns) for node in nodes}
    if dialect is Dialect.C:
        return min(times)
    return min(times, key=lambda time: (time[0] % _TIME_MODULUS, time[1]))


def _apply_nlinks(order: InodeOrder, nlinks: Mapping[Leaf, int]) -> None:
    if nlinks:
        nodes: Mapping[Node, int] = nlinks  # type: ignore[assignment]  # keys are looked up only
        order.links.update((i, nodes[node]) for i, node in enumerate(order.nodes) if node in nodes)
