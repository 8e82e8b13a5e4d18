"""The layout of an image, computed before any byte is written.

Inodes lie one behind the other, each with its attribute body and an inline tail; what does not fit in
the tail goes to data blocks at the end, in inode order. A tail never crosses the end of a block, so some
inodes are moved a little, and V0 and V1 put some tails into a block of their own. The rules follow what
the originals do to the byte, see `Placer`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPACT_INODE,
    DIRENT,
    EXTENDED_INODE,
    INODE_AREA_OFFSET,
    LG_BLOCK_SIZE,
    MAX_CHUNK_BITS,
    MAX_FILE_SIZE,
    MAX_SYMLINK_LENGTH,
    MIN_CHUNK_BITS,
    SLOT_SIZE,
    V2_CHUNK_FORMAT,
    DataLayout,
    FormatVersion,
)
from cfsctl.erofs.node_errors import NodeFault
from cfsctl.tree.dialect import Dialect
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    ExternalFile,
    InlineFile,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from cfsctl.erofs.write.inodes import InodeTable
    from cfsctl.erofs.write.order import DirectoryPlan
    from cfsctl.tree.model import Node

LG_SLOT_SIZE: Final = 5
_BLOCK_MASK: Final = BLOCK_SIZE - 1
_MAX_COMPACT_ID: Final = 0xFFFF
_MAX_COMPACT_SIZE: Final = 0xFFFFFFFF
_HALF_BLOCK: Final = BLOCK_SIZE // 2

_MAX_V2_INLINE: Final = 512
"""Bytes of an inline file that are read back from a V2 image."""


class Extent(NamedTuple):
    """How the data of an inode is stored.

    Attributes:
        layout: What the inode says of it.
        size: i_size.
        tail: Bytes behind the attribute body.
        blocks: Data blocks.
        u: i_u if that is not the address of the first block.
    """

    layout: int
    size: int
    tail: int = 0
    blocks: int = 0
    u: int = 0


_NOTHING: Final = Extent(DataLayout.PLAIN, 0)

Shape = tuple[bool, Extent, int]
"""Of one inode: whether it is of the compact kind, its data, and the number of its first data block,
counted from the start of all data blocks."""


class Layout:
    """Positions of everything.

    Attributes:
        nids: Slot of each inode.
        shapes: Shape of each inode that is not an ordinary external file, by number.
        compact: For each usual external file 1 if its inode is compact.
        inodes_end: Byte offset of the shared attributes.
        data_start: Byte offset of the data blocks.
        blocks: Size of the image in blocks.
    """

    __slots__ = ("blocks", "compact", "data_start", "inodes_end", "nids", "shapes")

    def __init__(self, compact: bytearray) -> None:
        """Start without any inode."""
        self.nids: list[int] = []
        self.shapes: dict[int, Shape] = {}
        self.compact = compact
        self.inodes_end = 0
        self.data_start = 0
        self.blocks = 0

    def finish(self, inodes_end: int, table_size: int, data_blocks: int) -> None:
        """Take the end of the inode area, and place what comes after it."""
        self.inodes_end = _round_up(inodes_end, SLOT_SIZE)
        self.data_start = _round_up(self.inodes_end + table_size, BLOCK_SIZE)
        self.blocks = self.data_start // BLOCK_SIZE + data_blocks


def lay_out(inodes: InodeTable, version: FormatVersion, dialect: Dialect) -> Layout:
    """Place all inodes.

    Raises:
        NodeFault: Something that the format has no room for.
    """
    compact = _find_compact(inodes) if version is not FormatVersion.V2 else inodes.earliest
    placer = Placer(inodes, version, dialect)
    layout = Layout(compact)
    nodes, find_plan = inodes.order.nodes, inodes.order.plans.get
    shapes, place, add_nid = layout.shapes, placer.place, layout.nids.append
    nid = INODE_AREA_OFFSET >> LG_SLOT_SIZE
    for index, (group, is_compact) in enumerate(zip(inodes.groups, compact, strict=True)):
        if group.is_external:
            # One chunk index of four bytes never crosses the end of a block, since all is so aligned.
            add_nid(nid)
            nid += group.compact_slots if is_compact else group.extended_slots
        else:
            nid, end, shapes[index] = place(nid, nodes[index], find_plan(index), group.size, is_compact)
            add_nid(nid)
            nid = (end + SLOT_SIZE - 1) >> LG_SLOT_SIZE
    layout.finish(nid << LG_SLOT_SIZE, len(inodes.attributes.table), placer.data_blocks)
    return layout


def _find_compact(inodes: InodeTable) -> bytearray:
    """Return for each inode whether it may be compact, what only directories have left aside."""
    compact = inodes.earliest[:]
    nodes, links = inodes.order.nodes, inodes.order.links
    position = compact.find(1)
    while position >= 0:
        node = nodes[position]
        if (
            node.uid > _MAX_COMPACT_ID
            or node.gid > _MAX_COMPACT_ID
            or links.get(position, 0) > _MAX_COMPACT_ID
            or (type(node) is ExternalFile and node.size > _MAX_COMPACT_SIZE)
        ):
            compact[position] = 0
        position = compact.find(1, position + 1)
    return compact


class Placer:
    """Places inodes that are not ordinary external files.

    Attributes:
        data_blocks: Data blocks handed out so far.
    """

    def __init__(self, inodes: InodeTable, version: FormatVersion, dialect: Dialect) -> None:
        """Start without data blocks."""
        self._is_v2 = version is FormatVersion.V2
        self._escaped = inodes.escaped
        self._dialect = dialect
        self._targets: dict[int, Extent] = {}
        self._contents: dict[int, Extent] = {}
        self.data_blocks = 0

    def place(
        self,
        nid: int,
        node: Node,
        plan: DirectoryPlan | None,
        body_size: int,
        is_compact: int,
    ) -> tuple[int, int, Shape]:
        """Place one inode.

        Args:
            nid: First slot that is free.
            node: What the inode is of.
            plan: Its entries if it is a directory.
            body_size: Bytes of its attribute body.
            is_compact: Whether everything but size and link count allows a compact inode.

        Returns:
            The slot of the inode, the byte behind its tail, and its shape.
        """
        extent = _plan_extent(plan) if plan is not None else self.extent(node)
        compact = (
            is_compact == 1
            and extent.size <= _MAX_COMPACT_SIZE
            and (plan is None or plan.nlink <= _MAX_COMPACT_ID)
        )
        meta = (COMPACT_INODE.size if compact else EXTENDED_INODE.size) + body_size
        position = nid << LG_SLOT_SIZE
        if extent.tail:
            # What ends in the block that it begins in, need not move.
            end = position + meta + extent.tail
            if (position ^ end) >> LG_BLOCK_SIZE:
                position, extent = self._fit(position, meta, extent, node)
        first_block = self.data_blocks
        self.data_blocks += extent.blocks
        return (
            position >> LG_SLOT_SIZE,
            position + meta + extent.tail,
            (compact, extent, first_block),
        )

    def _fit(self, position: int, meta: int, extent: Extent, node: Node) -> tuple[int, Extent]:
        """Move an inode, or its tail, where the end of a block is in the way."""
        if self._is_v2:
            return _fit_v2(position, meta, extent, node), extent
        if isinstance(node, Symlink):
            return _fit_symlink(position, meta, extent)
        return _fit_tail(position, meta, extent)

    def extent(self, node: Node) -> Extent:
        """Return how the data of a leaf is stored, if nothing stands in the way.

        Raises:
            NodeFault: The data cannot be stored.
        """
        if isinstance(node, Symlink):
            _check_target(node)
            size = len(node.target)
            return self._targets.get(size) or self._targets.setdefault(
                size, Extent(DataLayout.INLINE, size, size)
            )
        if isinstance(node, InlineFile):
            size = len(node.data)
            return self._contents.get(size) or self._contents.setdefault(size, self._inline(node, size))
        if isinstance(node, ExternalFile | RedirectedFile | SparseFile):
            return self._external(node)
        if isinstance(node, CharDevice | BlockDevice) and node not in self._escaped:
            return Extent(DataLayout.PLAIN, 0, u=node.rdev)
        return _NOTHING

    def _inline(self, node: Node, size: int) -> Extent:
        if self._is_v2:
            if size > _MAX_V2_INLINE:
                raise NodeFault(
                    node,
                    f"inline content of {size} bytes, more than the {_MAX_V2_INLINE} of format 2",
                    "i_size",
                )
            return Extent(DataLayout.INLINE if size else DataLayout.PLAIN, size, size)
        blocks, tail = divmod(size, BLOCK_SIZE)
        if tail > _HALF_BLOCK:
            blocks, tail = blocks + 1, 0
        return Extent(DataLayout.INLINE if tail else DataLayout.PLAIN, size, tail, blocks)

    def _external(self, node: ExternalFile | RedirectedFile | SparseFile) -> Extent:
        size = node.size
        if size > MAX_FILE_SIZE:
            raise NodeFault(node, f"file of {size} bytes, more than {MAX_FILE_SIZE}", "i_size")
        if self._is_v2:
            # Without the index the kernel reads other bytes of the image. The original leaves it out.
            return Extent(DataLayout.CHUNK, size, 4 if has_digest(node) else 0, u=V2_CHUNK_FORMAT)
        if size == 0 and self._dialect is Dialect.C:
            return _NOTHING
        bits = chunk_bits(size)
        return Extent(DataLayout.CHUNK, size, 4 * -(-size >> bits), u=bits - LG_BLOCK_SIZE)


def has_digest(node: ExternalFile | RedirectedFile | SparseFile) -> bool:
    """Return whether the image says what the digest of the content is."""
    match node:
        case ExternalFile():
            return node.has_digest
        case RedirectedFile():
            return node.digest is not None
        case _:
            return False


def _check_target(node: Symlink) -> None:
    target = node.target
    if not 0 < len(target) <= MAX_SYMLINK_LENGTH or b"\0" in target:
        raise NodeFault(
            node,
            f"link target of {len(target)} bytes; expected 1 to {MAX_SYMLINK_LENGTH}, none of them NUL",
            "i_size",
        )


def chunk_bits(size: int) -> int:
    """Return the binary logarithm of the chunk size of a file in V0 and V1."""
    bits = (size - 1).bit_length() if size > 1 else 1
    return min(max(bits, MIN_CHUNK_BITS), MAX_CHUNK_BITS)


def _plan_extent(plan: DirectoryPlan) -> Extent:
    """Return how the entries of a directory are stored."""
    size = plan.size
    if size <= _HALF_BLOCK:
        return Extent(DataLayout.INLINE, size, size)
    sizes = chunk_sizes(plan)
    tail = sizes.pop() if sizes[-1] <= _HALF_BLOCK else 0
    layout = DataLayout.INLINE if tail else DataLayout.PLAIN
    return Extent(layout, len(sizes) * BLOCK_SIZE + tail, tail, len(sizes))


def chunk_sizes(plan: DirectoryPlan) -> list[int]:
    """Return the sizes in bytes of the chunks that directory entries are stored in."""
    if plan.size <= BLOCK_SIZE:
        return [plan.size]
    sizes = []
    size = 0
    for name in plan.with_dots()[0]:
        cost = DIRENT.size + len(name)
        if size + cost > BLOCK_SIZE:
            sizes.append(size)
            size = 0
        size += cost
    return [*sizes, size]


def _fit_symlink(position: int, meta: int, extent: Extent) -> tuple[int, Extent]:
    """Keep a link and its target in one block in V0 and V1; give a target that is too long its own."""
    total = meta + extent.tail
    crosses = position // BLOCK_SIZE != (position + total - 1) // BLOCK_SIZE
    if total >= BLOCK_SIZE:
        extent = extent._replace(layout=DataLayout.PLAIN, tail=0, blocks=1)
    return _round_up(position, BLOCK_SIZE) if crosses else position, extent


def _fit_tail(position: int, meta: int, extent: Extent) -> tuple[int, Extent]:
    """Keep a tail in one block in V0 and V1; what never fits gets a block."""
    room = BLOCK_SIZE - ((position + meta) & _BLOCK_MASK)
    if room >= extent.tail:
        return position, extent
    skip = _round_up(room, SLOT_SIZE)
    if extent.tail <= BLOCK_SIZE - ((position + meta + skip) & _BLOCK_MASK):
        return position + skip, extent
    layout = DataLayout.CHUNK if extent.layout == DataLayout.CHUNK else DataLayout.PLAIN
    return _round_up(position, BLOCK_SIZE), extent._replace(layout=layout, tail=0, blocks=extent.blocks + 1)


def _fit_v2(position: int, meta: int, extent: Extent, node: Node) -> int:
    """Keep an inline tail in one block in V2; one that ends exactly with the block moves too.

    Raises:
        NodeFault: The tail fits nowhere; the original writes an unreadable image.
    """
    if extent.layout != DataLayout.INLINE:
        return position
    last = position + meta - 1
    end = position + meta + extent.size % BLOCK_SIZE
    if last // BLOCK_SIZE != end // BLOCK_SIZE:
        position = _round_up(position + BLOCK_SIZE - last % BLOCK_SIZE, SLOT_SIZE)
    start = position + meta
    if start // BLOCK_SIZE != (start + extent.tail - 1) // BLOCK_SIZE:
        what = "link target" if isinstance(node, Symlink) else "content"
        raise NodeFault(node, f"{what} of {extent.tail} bytes fits in no block of format 2", "i_size")
    return position


def _round_up(number: int, unit: int) -> int:
    return (number + unit - 1) & -unit
