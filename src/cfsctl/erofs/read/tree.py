"""Read the tree that an image was written from.

The tree, written again in the same format, gives the same bytes: what the writer adds (stubs and the
opaque mark of root, escapes of whiteouts and of overlay attributes, metacopy and redirect) is taken
away exactly where the writer adds it, and everything else is the tree's own and stays.

The walk keeps its own stack, visits no inode twice and refuses everything that no writer makes; see
`cfsctl.erofs.read.image` for what bounds its time and memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple, TypeAlias

from cfsctl.erofs.format import (
    MAX_DEPTH,
    SLOT_SIZE,
    WHITEOUTS_ATTRIBUTES,
    WHITEOUTS_OPAQUE_ATTRIBUTES,
    XATTR_PREFIXES,
    DirentType,
    ErofsError,
    FormatVersion,
)
from cfsctl.erofs.read.attributes import WrongAlgorithmError, separate
from cfsctl.erofs.read.directories import read_listing
from cfsctl.erofs.read.fastpath import leaf_reader
from cfsctl.erofs.read.image import Image, show
from cfsctl.erofs.read.leaves import LeafReader
from cfsctl.erofs.read.objects import collect_objects, find_algorithm, kind_mismatch
from cfsctl.erofs.stubs import remove_stubs
from cfsctl.tree.gc_pause import python_gc_paused
from cfsctl.tree.model import NO_XATTRS, CharDevice, Directory, FileSystem, Leaf

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import ImageBuffer
    from cfsctl.erofs.read.attributes import Attribute
    from cfsctl.erofs.read.image import Inode

_REGULAR: Final = int(DirentType.REGULAR)
_DIRECTORY: Final = int(DirentType.DIRECTORY)
_CHARACTER: Final = int(DirentType.CHARACTER)

__all__ = ["check_image", "collect_objects", "find_algorithm", "read_image"]


def read_image(data: ImageBuffer, algorithm: Algorithm) -> FileSystem:
    """Return the tree in an image.

    Args:
        data: The whole image; not changed and not kept.
        algorithm: Hash of the objects it names.

    Raises:
        WrongAlgorithmError: It names objects by the other hash.
        ErofsError: It is not a composefs image, or one that no writer has made.
    """
    with python_gc_paused():
        return _TreeReader(Image(data), algorithm).read()


def check_image(data: ImageBuffer, algorithm: Algorithm) -> set[ObjectID]:
    """Read all of an image and check the rules of its format, as before it is kept.

    Returns:
        The objects it needs, as `collect_objects` does.

    Raises:
        WrongAlgorithmError: It names objects by the other hash.
        ErofsError: It is not a composefs image, or one that no writer has made, or it names one object by
            digest and another by path.
    """
    read_image(data, algorithm)
    return collect_objects(data, algorithm, strict=True)


_Trail: TypeAlias = "tuple[_Trail, bytes] | None"
"""Parents and own name of a directory, innermost last; paths are only made for messages."""


class _Pending(NamedTuple):
    """A directory whose entries are still to be read.

    Attributes:
        directory: Its node.
        inode: Its inode.
        parent_nid: Where `..` must lead.
        depth: 0 for root.
        trail: Its path.
        marked: Its attributes as stored, if they have the marks of a directory with whiteouts.
    """

    directory: Directory
    inode: Inode
    parent_nid: int
    depth: int
    trail: _Trail
    marked: list[Attribute] | None


class _Links:
    """A leaf that says it has several names."""

    __slots__ = ("count", "kind", "leaf", "nlink")

    def __init__(self, leaf: Leaf, inode: Inode) -> None:
        self.leaf = leaf
        self.kind = inode.kind
        self.nlink = inode.nlink
        self.count = 1


class _TreeReader:
    """One reading of one image."""

    def __init__(self, image: Image, algorithm: Algorithm) -> None:
        self._image = image
        self._leaves = LeafReader(image, algorithm)
        self._read_usual = leaf_reader(image, algorithm, self._leaves.own_of_references)
        self._own: dict[bytes, Mapping[bytes, bytes]] = {b"": NO_XATTRS}
        self._links: dict[int, _Links] = {}
        self._root_devices: list[bytes] = []
        self._stack: list[_Pending] = []

    def read(self) -> FileSystem:
        inode = self._image.root()
        root = self._enter(inode, inode.nid, 0, None)
        while self._stack:
            self._fill(self._stack.pop())
        self._check_links()
        self._check_superblock()
        if self._image.is_epoch1:
            remove_stubs(root, self._root_devices)
        return FileSystem(root)

    def _enter(self, inode: Inode, parent_nid: int, depth: int, trail: _Trail) -> Directory:
        """Return the node of a directory and note that its entries are to be read."""
        if depth >= MAX_DEPTH:
            raise ErofsError(f"Maximum directory depth exceeded ({MAX_DEPTH})", field="depth")
        body = self._image.data[inode.body_start : inode.body_end]
        own = self._own.get(body)
        marked = None
        if own is None:
            own, marked = self._directory_attributes(body)
        directory = Directory(inode.mode, inode.uid, inode.gid, inode.mtime_s, inode.mtime_ns, own)
        pending = (directory, inode, parent_nid, depth, trail, marked)
        self._stack.append(tuple.__new__(_Pending, pending))  # half the time of calling the class
        return directory

    def _directory_attributes(self, body: bytes) -> tuple[Mapping[bytes, bytes], list[Attribute] | None]:
        """Return the tree's own attributes, or all stored ones of a marked directory.

        Those of a marked directory depend on whether there are whiteouts in it.
        """
        attributes = self._image.attributes.decode(body)
        if self._image.is_epoch1 and all(mark in attributes for mark in WHITEOUTS_ATTRIBUTES):
            return NO_XATTRS, attributes
        own = self._own[body] = separate(attributes).own
        return own, None

    def _fill(self, pending: _Pending) -> None:
        """Read the entries of one directory."""
        nodes: list[Directory | Leaf] = []
        names: list[bytes] = []
        try:
            names, nids, kinds = read_listing(self._image, pending.inode, pending.parent_nid)
            self._read_entries(pending, names, nids, kinds, nodes)
            if self._image.unclaimed < 0:
                self._image.claim(0)
            pending.directory.entries = dict(zip(names, nodes, strict=True))
            if pending.depth == 0:
                self._root_devices = [n for n, kind in zip(names, kinds, strict=True) if kind == _CHARACTER]
            if pending.marked is not None:
                self._unmark(pending.directory, pending.marked, kinds)
        except ErofsError as error:
            name = names[len(nodes)] if len(nodes) < len(names) else None
            raise _located(error, pending.trail, name) from error

    def _read_entries(
        self,
        pending: _Pending,
        names: list[bytes],
        nids: list[int],
        kinds: list[int],
        nodes: list[Directory | Leaf],
    ) -> None:
        """Append the node of each entry to `nodes`; after an error that has those before the culprit."""
        seen, read_usual, append = self._image.seen, self._read_usual, nodes.append
        for nid, kind in zip(nids, kinds, strict=True):
            if seen[nid]:
                append(self._again(nid, kind))
                continue
            seen[nid] = 1
            if kind != _DIRECTORY and (leaf := read_usual(nid, kind)) is not None:
                append(leaf)
                continue
            inode = self._image.inode(nid)
            if inode.kind != kind:
                raise kind_mismatch(nid, kind, inode.kind)
            if kind == _DIRECTORY:
                trail = (pending.trail, names[len(nodes)])
                append(self._enter(inode, pending.inode.nid, pending.depth + 1, trail))
            else:
                append(self._leaf(inode, may_be_whiteout=pending.marked is not None))

    def _leaf(self, inode: Inode, *, may_be_whiteout: bool) -> Leaf:
        """Return the leaf of an inode that is met for the first time."""
        leaf = self._leaves.read(inode, may_be_whiteout=may_be_whiteout)
        if inode.nlink != 1:
            self._links[inode.nid] = _Links(leaf, inode)
        return leaf

    def _again(self, nid: int, kind: int) -> Leaf:
        """Return the leaf of an inode that was met before: a hard link."""
        if kind == _DIRECTORY:
            raise ErofsError(f"directory inode {nid} is named more than once", field="nid")
        links = self._links.get(nid)
        if links is None:
            raise ErofsError(
                f"inode nid {nid} is named again, expected once (its on-disk nlink) or a file",
                offset=nid * SLOT_SIZE,
                field="i_nlink",
            )
        if links.kind != kind:
            raise kind_mismatch(nid, kind, links.kind)
        links.count += 1
        return links.leaf

    def _unmark(self, directory: Directory, attributes: list[Attribute], kinds: list[int]) -> None:
        """Set the attributes of a marked directory, without the marks if the writer put them there."""
        nodes = directory.entries.values()
        has_whiteouts = any(
            kind == _REGULAR and isinstance(node, CharDevice) for node, kind in zip(nodes, kinds, strict=True)
        )
        written: tuple[Attribute, ...] = ()
        if has_whiteouts:
            written = WHITEOUTS_ATTRIBUTES
            if self._image.superblock.version is FormatVersion.V1:
                written += WHITEOUTS_OPAQUE_ATTRIBUTES
        directory.xattrs = separate(attributes, written).own

    def _check_links(self) -> None:
        for nid, links in self._links.items():
            if links.count != links.nlink:
                raise ErofsError(
                    f"nlink mismatch for inode nid {nid}: on-disk nlink is {links.nlink}, "
                    f"but found {links.count} reference(s) in the directory tree",
                    offset=nid * SLOT_SIZE,
                    field="i_nlink",
                )

    def _check_superblock(self) -> None:
        """Compare what the headers promise with what was found."""
        superblock = self._image.superblock
        count = self._image.seen.count(1)
        if superblock.inode_count != count:
            raise ErofsError(f"superblock says {superblock.inode_count} inodes, found {count}", field="inos")
        names = self._image.attributes.names
        if not superblock.has_acl and self._image.is_epoch1 and not _ACL_NAMES.isdisjoint(names):
            raise ErofsError("an inode has an ACL, but the header's flag says that none has", field="flags")
        if superblock.has_acl and not any(name.startswith(tuple(_ACL_NAMES)) for name in names):
            raise ErofsError("the header's flag says that an inode has an ACL, but none has", field="flags")


_ACL_NAMES: Final = frozenset(XATTR_PREFIXES[2:4])


def _located(error: ErofsError, trail: _Trail, name: bytes | None) -> ErofsError:
    """Return the error with the path of the entry at fault in front."""
    parts = [] if name is None else [name]
    while trail is not None:
        trail, part = trail
        parts.append(part)
    path = b"/" + b"/".join(reversed(parts))
    if len(path) > _SHOWN_PATH:
        path = b"..." + path[-_SHOWN_PATH:]
    if isinstance(error, WrongAlgorithmError):
        return error
    return ErofsError(f'"{show(path)}": {error}', offset=error.offset, field=error.field, hint=error.hint)


_SHOWN_PATH: Final = 500
"""Bytes of a path that a message quotes, counted from its end."""
