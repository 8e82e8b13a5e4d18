"""The bytes of inodes: headers, attributes, entries of directories, and content.

Usual external files, which are most of a tree, are written with one call each; see `_ExternalRecord`.
"""

from __future__ import annotations

import struct
from binascii import hexlify
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    COMPACT_INODE,
    DIRENT,
    EXTENDED_INODE,
    I_FORMAT_EXTENDED,
    LG_BLOCK_SIZE,
    NULL_CHUNK,
    V2_CHUNK_FORMAT,
    DataLayout,
    DirentType,
)
from cfsctl.erofs.write.attribute_sets import Form
from cfsctl.erofs.write.layout import chunk_bits, chunk_sizes
from cfsctl.tree.model import ExternalFile, InlineFile, Symlink

if TYPE_CHECKING:
    from cfsctl.erofs.write.attribute_sets import AttributeSet
    from cfsctl.erofs.write.inodes import InodeTable
    from cfsctl.erofs.write.layout import Extent, Layout
    from cfsctl.erofs.write.order import DirectoryPlan
    from cfsctl.tree.model import Node

_NULL_BLOCK: Final = b"\xff" * BLOCK_SIZE
_REGULAR: Final = 0o100000
_DIRECTORY: Final = int(DirentType.DIRECTORY)
_CHUNK_COMPACT: Final = int(DataLayout.CHUNK)
_CHUNK_EXTENDED: Final = _CHUNK_COMPACT | I_FORMAT_EXTENDED

_DIRENT_TYPES: Final = {
    0o100000: DirentType.REGULAR,
    0o040000: DirentType.DIRECTORY,
    0o020000: DirentType.CHARACTER,
    0o060000: DirentType.BLOCK,
    0o010000: DirentType.FIFO,
    0o140000: DirentType.SOCKET,
    0o120000: DirentType.SYMLINK,
}


class _ExternalRecord:
    """The two structs, compact and extended, of all external files with one attribute set."""

    __slots__ = ("compact", "extended", "head", "icount", "tail")

    def __init__(self, group: AttributeSet, redirect_size: int, padding: int, digest_size: int) -> None:
        external = f"{digest_size}s{redirect_size}s{2 * digest_size + 1}s{padding}x"
        body = f"{len(group.head)}s{external}{len(group.tail)}s4s"
        self.compact = struct.Struct(COMPACT_INODE.format + body).pack_into
        self.extended = struct.Struct(EXTENDED_INODE.format + body).pack_into
        self.head = group.head
        self.tail = group.tail
        self.icount = group.icount


class _Modes(dict[int, int]):
    """i_mode of regular files by permission bits."""

    def __missing__(self, mode: int) -> int:
        if not 0 <= mode < 1 << 12:
            raise struct.error(f"mode {mode:o}")
        self[mode] = _REGULAR | mode
        return _REGULAR | mode


class InodeWriter:
    """Writes the inodes of one image, and what belongs to them."""

    def __init__(self, image: bytearray, inodes: InodeTable, layout: Layout, *, is_v2: bool) -> None:
        """Take the image, zeros where inodes and blocks are to be."""
        self._image = image
        self._inodes = inodes
        self._layout = layout
        self._is_v2 = is_v2
        self._data_block = layout.data_start // BLOCK_SIZE
        types = bytearray(b"\1") * len(layout.nids)
        for index in layout.shapes:
            types[index] = self._type(inodes.order.nodes[index])
        self._types = types

    def _type(self, node: Node) -> DirentType:
        return DirentType.REGULAR if node in self._inodes.escaped else _DIRENT_TYPES[node.file_type]

    def write(self) -> None:
        """Write all inodes."""
        self._write_external_files()
        self._write_repeated_files()
        self._write_other_inodes()

    def _write_external_files(self) -> None:
        """Write usual external files with one call each.

        One long loop on purpose: most inodes of an image are of this kind, and calls would take longer than
        what they do.
        """
        image, is_v2 = self._image, self._is_v2
        inodes, layout = self._inodes, self._layout
        find_nlink = inodes.order.links.get
        entries = inodes.attributes.external
        redirect = entries.redirect
        digest_size = inodes.algorithm.digest_size
        path_split = digest_size - 1
        modes = _Modes()
        records: dict[AttributeSet, _ExternalRecord] = {}
        usual = Form.EXTERNAL
        numbered = zip(inodes.order.nodes, inodes.groups, layout.nids, layout.compact, strict=True)
        for index, (node, group, nid, is_compact) in enumerate(numbered):
            if group.form is not usual:
                continue
            record = records.get(group)
            if record is None:
                record = records[group] = _ExternalRecord(group, len(redirect), entries.padding, digest_size)
            size: int = node.size  # type: ignore[attr-defined]  # an ExternalFile
            object_id: bytes = node.object_id  # type: ignore[attr-defined]  # the same
            if is_compact:
                record.compact(
                    image,
                    nid << 5,
                    _CHUNK_COMPACT,
                    record.icount,
                    modes[node.mode],
                    find_nlink(index, 1),
                    size,
                    0 if size <= BLOCK_SIZE else (size - 1).bit_length() - LG_BLOCK_SIZE,
                    index,
                    node.uid,
                    node.gid,
                    record.head,
                    object_id,
                    redirect,
                    hexlify(object_id, "/", path_split),
                    record.tail,
                    NULL_CHUNK,
                )
                continue
            if is_v2:
                chunk_format, number, nanoseconds = V2_CHUNK_FORMAT, nid, 0
            else:
                chunk_format = 0 if size <= BLOCK_SIZE else (size - 1).bit_length() - LG_BLOCK_SIZE
                number, nanoseconds = index, node.mtime_ns
            record.extended(
                image,
                nid << 5,
                _CHUNK_EXTENDED,
                record.icount,
                modes[node.mode],
                size,
                chunk_format,
                number,
                node.uid,
                node.gid,
                node.mtime_s,
                nanoseconds,
                find_nlink(index, 1),
                record.head,
                object_id,
                redirect,
                hexlify(object_id, "/", path_split),
                record.tail,
                NULL_CHUNK,
            )

    def _write_repeated_files(self) -> None:
        """Write external files whose content other inodes have too."""
        image, is_v2 = self._image, self._is_v2
        nodes, groups = self._inodes.order.nodes, self._inodes.groups
        nids, is_compact = self._layout.nids, self._layout.compact
        references = self._inodes.attributes.file_references
        find_nlink = self._inodes.order.links.get
        modes = _Modes()
        for index in self._inodes.repeated:
            node, group, nid = nodes[index], groups[index], nids[index]
            assert isinstance(node, ExternalFile)
            size, mode, nlink = node.size, modes[node.mode], find_nlink(index, 1)
            offset = nid << 5
            u = V2_CHUNK_FORMAT if is_v2 else chunk_bits(size) - LG_BLOCK_SIZE
            icount, uid, gid = group.icount, node.uid, node.gid
            if is_compact[index]:
                COMPACT_INODE.pack_into(
                    image, offset, _CHUNK_COMPACT, icount, mode, nlink, size, u, index, uid, gid
                )
                offset += COMPACT_INODE.size
            else:
                number, nanoseconds = (nid, 0) if is_v2 else (index, node.mtime_ns)
                EXTENDED_INODE.pack_into(
                    image,
                    offset,
                    _CHUNK_EXTENDED,
                    icount,
                    mode,
                    size,
                    u,
                    number,
                    uid,
                    gid,
                    node.mtime_s,
                    nanoseconds,
                    nlink,
                )
                offset += EXTENDED_INODE.size
            body = b"".join((group.head, references[node.object_id], group.tail, NULL_CHUNK))
            image[offset : offset + len(body)] = body

    def _write_other_inodes(self) -> None:
        """Write the inodes that are not ordinary external files, and their data."""
        image, is_v2 = self._image, self._is_v2
        order, layout, escaped = self._inodes.order, self._layout, self._inodes.escaped
        nodes, groups, nids = order.nodes, self._inodes.groups, layout.nids
        pack_compact, pack_extended = COMPACT_INODE.pack_into, EXTENDED_INODE.pack_into
        find_plan, find_nlink = order.plans.get, order.links.get
        for index, (is_compact, extent, first_block) in layout.shapes.items():
            node, group, nid, plan = nodes[index], groups[index], nids[index], find_plan(index)
            mode = node.mode
            if mode >> 12:
                raise struct.error(f"mode {mode:o}")
            mode |= _REGULAR if node in escaped else node.file_type
            data_layout, size, tail, blocks, u = extent
            block = self._data_block + first_block
            if blocks:
                u = _block_address(extent, block)
            offset = nid << 5
            nlink = find_nlink(index, 1) if plan is None else plan.nlink
            icount = group.icount
            if is_compact:
                pack_compact(
                    image, offset, data_layout, icount, mode, nlink, size, u, index, node.uid, node.gid
                )
                offset += COMPACT_INODE.size
            else:
                data_layout |= I_FORMAT_EXTENDED
                number, nanoseconds = (nid, 0) if is_v2 else (index, node.mtime_ns)
                pack_extended(
                    image,
                    offset,
                    data_layout,
                    icount,
                    mode,
                    size,
                    u,
                    number,
                    node.uid,
                    node.gid,
                    node.mtime_s,
                    nanoseconds,
                    nlink,
                )
                offset += EXTENDED_INODE.size
            if icount:
                image[offset : offset + group.size] = group.head
                offset += group.size
            if plan is not None:
                self._write_directory(plan, offset, block * BLOCK_SIZE)
            elif blocks:
                self._write_data(_data(node, extent), extent, offset, block * BLOCK_SIZE)
            elif tail:
                image[offset : offset + tail] = _data(node, extent)

    def _write_data(self, data: bytes, extent: Extent, tail_offset: int, block_offset: int) -> None:
        split = len(data) - extent.tail
        self._image[block_offset : block_offset + split] = data[:split]
        self._image[tail_offset : tail_offset + extent.tail] = data[split:]

    def _write_directory(self, plan: DirectoryPlan, tail_offset: int, block_offset: int) -> None:
        """Write entries; all chunks but a short last one go to blocks."""
        size = plan.size
        if size <= BLOCK_SIZE and plan.dots_in_front:
            offset = tail_offset if size <= BLOCK_SIZE // 2 else block_offset
            self._image[offset : offset + size] = self._small_directory(plan)
            return
        names, numbers = plan.with_dots()
        start = 0
        for chunk_size in chunk_sizes(plan):
            end = _chunk_end(names, start, chunk_size)
            is_tail = end == len(names) and chunk_size <= BLOCK_SIZE // 2
            offset = tail_offset if is_tail else block_offset
            self._image[offset : offset + chunk_size] = self._chunk(names[start:end], numbers[start:end])
            block_offset += BLOCK_SIZE
            start = end

    def _small_directory(self, plan: DirectoryPlan) -> bytes:
        """Return the entries of a directory with one chunk that `.` and `..` are first in."""
        nids, types = self._layout.nids, self._types
        count = len(plan.names) + 2
        names_start = DIRENT.size * count
        fields: list[int] = [0] * (3 * count)
        if plan.children:
            fields[0::3] = [nids[plan.index], nids[plan.parent], *[nids[child] for child in plan.children]]
            fields[2::3] = [_DIRECTORY, _DIRECTORY, *[types[child] for child in plan.children]]
        else:
            children = slice(plan.first, plan.first + count - 2)
            fields[0::3] = [nids[plan.index], nids[plan.parent], *nids[children]]
            fields[2::3] = [_DIRECTORY, _DIRECTORY, *types[children]]
        offsets = [names_start, names_start + 1, *accumulate(plan.lengths, initial=names_start + 3)]
        offsets.pop()
        fields[1::3] = offsets
        return b"".join((_dirents(count).pack(*fields), b"...", plan.joined))

    def _chunk(self, names: list[bytes], numbers: list[int]) -> bytes:
        offsets = accumulate(map(len, names), initial=DIRENT.size * len(names))
        entries = [
            DIRENT.pack(self._layout.nids[number], offset, self._types[number])
            for number, offset in zip(numbers, offsets, strict=False)
        ]
        return b"".join([*entries, *names])


@lru_cache(maxsize=512)
def _dirents(count: int) -> struct.Struct:
    """Return the struct of so many directory entries."""
    return struct.Struct("<" + DIRENT.format.removeprefix("<") * count)


def _chunk_end(names: list[bytes], start: int, size: int) -> int:
    """Return the position behind the names that a chunk of this size holds."""
    while size > 0:
        size -= DIRENT.size + len(names[start])
        start += 1
    return start


def _block_address(extent: Extent, block: int) -> int:
    """Return i_u of an inode with data blocks: the address of the first.

    A chunk array that got a block keeps its chunk size in the lower half.
    """
    if extent.layout == DataLayout.CHUNK:
        return (block & 0xFFFF0000) | extent.u
    return block


def _data(node: Node, extent: Extent) -> bytes:
    if isinstance(node, Symlink):
        return node.target
    if isinstance(node, InlineFile):
        return node.data
    return NULL_CHUNK * (extent.tail // 4) or _NULL_BLOCK
