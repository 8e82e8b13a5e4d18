"""Build the table of inodes with their attributes; the tree is not changed.

What V0 and V1 add to a tree is added here: the 256 stubs in root, the mark that makes root opaque, and
the marks of whiteouts. A whiteout of the tree becomes a regular file with two marks, since the kernel
would act on a real one; its directory gets marks too.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm, object_path
from cfsctl.erofs.format import (
    MAX_SINGLE_CHUNK,
    STUB_MODE,
    STUB_NAMES,
    WHITEOUT_ATTRIBUTES,
    WHITEOUTS_ATTRIBUTES,
    WHITEOUTS_OPAQUE_ATTRIBUTES,
    XATTR_METACOPY,
    XATTR_REDIRECT,
    XATTR_ROOT_OPAQUE,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.node_errors import NodeFault
from cfsctl.erofs.stubs import is_stub, stub_xattrs
from cfsctl.erofs.write.attribute_sets import Form, metacopy_value
from cfsctl.erofs.write.order import TreeListing, find_canonical, order_breadth_first, order_depth_first
from cfsctl.erofs.write.xattrs import XattrEncoder, splits_external
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.dumped import DumpedFileSystem, RedirectedFile
from cfsctl.tree.model import CharDevice, Directory, ExternalFile, InlineFile, SparseFile

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cfsctl.digest import ObjectID
    from cfsctl.erofs.write.attribute_sets import AttributeSet, Pair
    from cfsctl.erofs.write.order import InodeOrder
    from cfsctl.tree.model import FileSystem, Leaf, Node


class InodeTable:
    """All inodes of an image.

    Attributes:
        order: The inodes.
        groups: Attributes of each inode.
        attributes: Where the sets come from.
        escaped: Whiteouts that are written as regular files.
        min_mtime: Smallest modification time of V0 and V1, seconds and nanoseconds.
        repeated: Numbers of files whose content other inodes have too.
        earliest: For each inode 1 if that is its time, else 0.
        algorithm: The hash of the digests in the tree; SHA-256 if there are none.
    """

    __slots__ = (
        "algorithm",
        "attributes",
        "earliest",
        "escaped",
        "groups",
        "min_mtime",
        "order",
        "repeated",
    )

    def __init__(self, order: InodeOrder, algorithm: Algorithm, attributes: XattrEncoder) -> None:
        """Start without attributes."""
        self.order = order
        self.algorithm = algorithm
        self.attributes = attributes
        self.groups: list[AttributeSet] = []
        self.escaped: set[Node] = set()
        self.repeated: list[int] = []
        self.min_mtime = (0, 0)
        self.earliest = bytearray(len(order.nodes))


def build_inode_table(filesystem: FileSystem, version: FormatVersion, dialect: Dialect) -> InodeTable:
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
        _check_marks(order.nodes)
    else:
        order = order_breadth_first(listing, _canonical(filesystem, listing, dialect))
    object_ids = [node.object_id for node in order.nodes if isinstance(node, ExternalFile)]
    redirected = [node for node in order.nodes if type(node) is RedirectedFile]
    algorithm = _find_algorithm(
        [*object_ids, *(file.digest for file in redirected if file.digest is not None)]
    )
    inodes = InodeTable(order, algorithm, XattrEncoder(version, dialect, algorithm))
    whiteouts = _group(inodes, _find_repeated(object_ids, redirected), version, dialect)
    _check_whiteouts(whiteouts, listing.link_counts)
    if version is not FormatVersion.V2:
        inodes.escaped = {node for node in whiteouts if node not in stubs}
        _mark(inodes, version)
        _find_earliest(inodes, dialect)
        if isinstance(filesystem, DumpedFileSystem) and dialect is Dialect.C:
            _apply_nlinks(order, filesystem.nlinks)
    inodes.attributes.settle()
    return inodes


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


_MARKS: Final = frozenset((b"trusted.overlay.whiteout", b"user.overlay.whiteout"))
"""Attributes of a tree that become `WHITEOUT_ATTRIBUTES` when they are escaped."""


def _check_marks(nodes: Iterable[Node]) -> None:
    """Refuse empty files with the marks of a whiteout in V2: readers take them for one of another format."""
    for node in nodes:
        if (
            node.xattrs
            and node.xattrs.keys() >= _MARKS
            and isinstance(node, InlineFile | ExternalFile | SparseFile | RedirectedFile)
            and not (node.data if isinstance(node, InlineFile) else node.size)
        ):
            raise NodeFault(node, "an empty file with the attributes of a whiteout of format 1", "xattrs")


def _check_whiteouts(whiteouts: Iterable[Node], link_counts: Mapping[Node, int]) -> None:
    for node in whiteouts:
        if node in link_counts:
            raise NodeFault(node, f"a whiteout with {link_counts[node]} names; expected one", "i_nlink")


def _find_algorithm(digests: Iterable[bytes]) -> Algorithm:
    """Return the hash of all digests.

    Raises:
        ErofsError: They are of different sizes, or of a size that no hash has.
    """
    sizes = set(map(len, digests))
    if not sizes:
        return Algorithm.SHA256
    for algorithm in Algorithm:
        if sizes == {algorithm.digest_size}:
            return algorithm
    raise ErofsError(
        f"digests of {', '.join(map(str, sorted(sizes)))} bytes; expected all of 32 or all of 64",
        field="metacopy",
    )


def _find_repeated(object_ids: Sequence[ObjectID], redirected: Sequence[RedirectedFile]) -> set[ObjectID]:
    """Return the IDs of objects that more than one inode names, whose attributes are therefore shared."""
    unique = set(object_ids)
    if redirected:
        return unique  # a payload may be the path of any object
    if len(unique) == len(object_ids):
        return set()
    return {object_id for object_id, count in Counter(object_ids).items() if count > 1}


def _group(
    inodes: InodeTable, repeated: set[ObjectID], version: FormatVersion, dialect: Dialect
) -> list[Node]:
    """Give each inode its attribute set, without marks of the format.

    Returns:
        All whiteouts, stubs among them.
    """
    nodes = inodes.order.nodes
    attributes = inodes.attributes
    add = inodes.groups.append
    shared = _share_files(inodes, repeated)
    plain: dict[int, AttributeSet] = {}
    external: dict[int, AttributeSet | None] = {}
    find_plain, find_external = plain.get, external.get
    whiteouts: list[Node] = []
    group: AttributeSet | None
    for node in nodes:
        key = id(node.xattrs)
        if type(node) is ExternalFile:
            group = None
            if node.has_digest and 0 < node.size <= MAX_SINGLE_CHUNK:
                if node.object_id in repeated:
                    group = _referring_set(inodes, node) if node.object_id in shared else None
                else:
                    group = find_external(key)
                    if group is None and key not in external:
                        group = external[key] = _external_set(attributes, node, Form.EXTERNAL)
        elif isinstance(node, SparseFile | RedirectedFile):
            group = None
        else:
            group = find_plain(key)
            if group is None:
                group = plain[key] = attributes.set_of_mapping(node)
            if isinstance(node, CharDevice) and node.rdev == 0:
                whiteouts.append(node)
        if group is None:
            group = attributes.set_of_pairs(_file_pairs(inodes, node, version, dialect), node)
        group.users += 1
        add(group)
    return whiteouts


def _share_files(inodes: InodeTable, repeated: set[ObjectID]) -> set[ObjectID]:
    """Record the objects that several inodes have with their digest, and return them."""
    if not repeated:
        return repeated
    counts = Counter(
        node.object_id
        for node in inodes.order.nodes
        if type(node) is ExternalFile
        and node.object_id in repeated
        and node.has_digest
        and 0 < node.size <= MAX_SINGLE_CHUNK
    )
    shared = {object_id for object_id, count in counts.items() if count > 1}
    for object_id in shared:
        inodes.attributes.share_file(object_id)
    return shared


def _referring_set(inodes: InodeTable, node: ExternalFile) -> AttributeSet | None:
    """Return the set of a file that shares its content, and note its number, which is the next."""
    group = _external_set(inodes.attributes, node, Form.REPEATED)
    if group is not None:
        inodes.repeated.append(len(inodes.groups))
    return group


def _external_set(attributes: XattrEncoder, node: ExternalFile, form: Form) -> AttributeSet | None:
    """Return the set of a usual external file; None for one that is not so usual."""
    if splits_external(node.xattrs) or (form is Form.REPEATED and not attributes.can_refer(node.xattrs)):
        return None
    return attributes.set_of_mapping(node, form)


def _file_pairs(
    inodes: InodeTable,
    node: Node,
    version: FormatVersion,
    dialect: Dialect,
) -> Iterable[Pair]:
    """Return all attributes of a regular file whose content is elsewhere."""
    assert isinstance(node, ExternalFile | SparseFile | RedirectedFile)
    own = inodes.attributes.own_pairs(node.xattrs)
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
    pairs.append((XATTR_METACOPY, metacopy_value(digest, inodes.algorithm) if digest is not None else b""))
    if path:
        pairs.append((XATTR_REDIRECT, b"/" + path))
    return [*pairs, *own]


def _mark(inodes: InodeTable, version: FormatVersion) -> None:
    """Give the marks of V0 and V1 to root, to whiteouts, and to the directories that these are in."""
    marks: dict[int, list[Pair]] = {}
    if inodes.escaped:
        numbers = {number for number, node in enumerate(inodes.order.nodes) if node in inodes.escaped}
        in_directory = [*WHITEOUTS_ATTRIBUTES]
        if version is FormatVersion.V1:
            in_directory += WHITEOUTS_OPAQUE_ATTRIBUTES
        for plan in inodes.order.plans.values():
            if not numbers.isdisjoint(plan.with_dots()[1]):
                marks[plan.index] = in_directory
        marks |= {number: list(WHITEOUT_ATTRIBUTES) for number in numbers}
    marks[0] = [*marks.get(0, ()), XATTR_ROOT_OPAQUE]
    attributes = inodes.attributes
    for number, pairs in marks.items():
        node = inodes.order.nodes[number]
        inodes.groups[number].users -= 1
        marked = attributes.set_of_pairs(attributes.replace(attributes.own_pairs(node.xattrs), pairs), node)
        marked.users += 1
        inodes.groups[number] = marked


def _find_earliest(inodes: InodeTable, dialect: Dialect) -> None:
    """Find the smallest time, and who has it.

    To one original seconds are unsigned, so that times before 1970 are after all others.
    """
    is_unsigned = dialect is Dialect.RUST
    earliest: list[int] = []
    low_s, low_ns = 1 << 64, 0
    for index, node in enumerate(inodes.order.nodes):
        seconds = node.mtime_s
        if seconds <= low_s:
            if seconds < 0 and is_unsigned:
                seconds += 1 << 64
            if (seconds, node.mtime_ns) < (low_s, low_ns):
                low_s, low_ns = seconds, node.mtime_ns
                earliest = [index]
            elif (seconds, node.mtime_ns) == (low_s, low_ns):
                earliest.append(index)
    for index in earliest:
        inodes.earliest[index] = 1
    inodes.min_mtime = (low_s - (low_s >> 63 << 64) if is_unsigned else low_s, low_ns)


def _apply_nlinks(order: InodeOrder, nlinks: Mapping[Leaf, int]) -> None:
    if nlinks:
        nodes: Mapping[Node, int] = nlinks  # type: ignore[assignment]  # keys are looked up only
        order.links.update((i, nodes[node]) for i, node in enumerate(order.nodes) if node in nodes)
