"""The files of an image by the numbers that FUSE knows them by.

The root directory is number 1, every other inode its number in the image and 2; so numbers never change, and
nothing has to be remembered of what the kernel has looked up.

The image is not trusted, see `cfsctl.erofs.read.image`. Each request may visit as much as the image has
bytes, and a directory may have one parent only, so that no tree is endless.
"""

from __future__ import annotations

import contextlib
import stat
from collections import OrderedDict
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import object_path
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    SLOT_SIZE,
    WHITEOUT_ATTRIBUTES,
    WHITEOUTS_ATTRIBUTES,
    DataLayout,
    DirentType,
    ErofsError,
)
from cfsctl.erofs.read.directories import read_listing
from cfsctl.erofs.read.fastpath import leaf_reader
from cfsctl.erofs.read.image import Image
from cfsctl.erofs.read.leaves import LeafReader
from cfsctl.fuse.names import View, external_presenter, present_all, present_own
from cfsctl.fuse.protocol import ROOT_ID
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import ExternalFile, InlineFile, SparseFile, Symlink

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import ImageBuffer
    from cfsctl.erofs.read.image import Inode

_NODE_OFFSET: Final = 2
"""What is added to the number of an inode; 0 stands for nothing, and 1 for the root directory."""

_DIRECTORY: Final = int(DirentType.DIRECTORY)
_REGULAR: Final = int(DirentType.REGULAR)
_CHARACTER: Final = int(DirentType.CHARACTER)
_BLOCK: Final = int(DirentType.BLOCK)

MODE_OF_KIND: Final = (
    0,
    stat.S_IFREG,
    stat.S_IFDIR,
    stat.S_IFCHR,
    stat.S_IFBLK,
    stat.S_IFIFO,
    stat.S_IFSOCK,
    stat.S_IFLNK,
)
"""Bits of the mode by `DirentType`."""

_MAX_SIZE: Final = (1 << 63) - 1
_MAX_LISTED: Final = 1 << 17
"""Entries of directories that are kept decoded; one directory may have more."""

_MAX_KEPT: Final = 2048
"""Files of which attributes and content are kept decoded."""

_MAX_KEPT_BYTES: Final = 1 << 16
"""Of larger content in the image, nothing is kept."""


class NoSuchNodeError(Exception):
    """No inode has this number, or one of another type."""


class Stored(NamedTuple):
    """Content that is outside of the image.

    Attributes:
        path: Where it is below the objects; None if it is where the object of `object_id` is.
        object_id: The object that it must be, or None if the image does not say.
        size: How long it must be, in bytes.
    """

    path: bytes | None
    object_id: ObjectID | None
    size: int


class Hole(NamedTuple):
    """Content of nothing but zeros.

    Attributes:
        size: How many.
    """

    size: int


Content = bytes | Hole | Stored


class Listed:
    """A directory that was read.

    Attributes:
        names: Names of the entries, ascending.
        nids: Their inodes.
        kinds: Their types.
        parent_nid: The directory above, for root itself.
    """

    __slots__ = ("_index", "kinds", "names", "nids", "parent_nid")

    def __init__(self, names: list[bytes], nids: list[int], kinds: list[int], parent_nid: int) -> None:
        """Take the lists."""
        self.names = names
        self.nids = nids
        self.kinds = kinds
        self.parent_nid = parent_nid
        self._index: dict[bytes, int] | None = None

    def find(self, name: bytes) -> int | None:
        """Return the inode of an entry, or None."""
        if self._index is None:
            self._index = dict(zip(self.names, self.nids, strict=True))
        return self._index.get(name)


class ImageFiles:
    """The files of one image, looked at in one way.

    Attributes:
        view: Who looks at them.
        inode_count: How many inodes the image has.
        block_count: How many blocks of 4096 bytes it has.
        known_xattrs: Attributes of files that were asked for lately, by their number.
        may_have_acls: Whether some file may have a POSIX ACL.
    """

    def __init__(self, data: ImageBuffer, algorithm: Algorithm, view: View) -> None:
        """Check the headers and the root directory.

        Args:
            data: The image, which must stay as it is.
            algorithm: Hash of the objects it names.
            view: Who looks at it.

        Raises:
            ErofsError: It is not a composefs image.
        """
        self.view = view
        self._image = Image(data)
        self._size = len(self._image.data)
        self._root_nid = self._image.root().nid
        self._leaves = LeafReader(self._image, algorithm)
        self._read_usual = leaf_reader(self._image, algorithm, self._leaves.own_of_references)
        self._parents = {self._root_nid: self._root_nid}
        self._listed: OrderedDict[int, Listed] = OrderedDict()
        self._listed_entries = 0
        self.known_xattrs: dict[int, Mapping[bytes, bytes]] = {}
        self._contents: dict[int, Content] = {}
        self._presented: dict[int, tuple[Mapping[bytes, bytes], Mapping[bytes, bytes]]] = {}
        self._present_external = external_presenter(algorithm)
        superblock = self._image.superblock
        self.inode_count = superblock.inode_count
        self.block_count = self._size // BLOCK_SIZE
        # Only the older formats have a flag for it.
        self.may_have_acls = superblock.has_acl or not self._image.is_epoch1

    def node_of(self, nid: int) -> int:
        """Return the number of an inode for FUSE."""
        return ROOT_ID if nid == self._root_nid else nid + _NODE_OFFSET

    def inode(self, node: int) -> Inode:
        """Return the inode of a number.

        Raises:
            NoSuchNodeError: There is no such inode.
            ErofsError: It is damaged.
        """
        return self._image.inode(self._nid_of(node))

    def _nid_of(self, node: int) -> int:
        """Return the number of an inode in the image, which may be looked at from the beginning."""
        self._image.unclaimed = self._size
        if node == ROOT_ID:
            return self._root_nid
        nid = node - _NODE_OFFSET
        if not 0 <= nid <= self._image.max_nid:
            raise NoSuchNodeError
        return nid

    def inodes(self, listed: Listed, start: int, stop: int) -> list[Inode]:
        """Return the inodes of some entries of a directory.

        Raises:
            ErofsError: One is damaged, or not of the type that its entry says.
        """
        image = self._image
        image.unclaimed = self._size
        found = list(map(image.inode, listed.nids[start:stop]))
        for inode, kind in zip(found, listed.kinds[start:stop], strict=True):
            if inode[1] != kind:
                raise _wrong_kind(inode, kind)
        return found

    def find(self, directory: int, name: bytes) -> Inode | None:
        """Return the inode of an entry of a directory, or None if there is none.

        Raises:
            NoSuchNodeError: There is no such directory.
            ErofsError: Directory or inode are damaged.
        """
        nid = self.listed(directory).find(name)
        return None if nid is None else self._image.inode(nid)

    def listed(self, node: int) -> Listed:
        """Return the entries of a directory that are to be seen.

        Raises:
            NoSuchNodeError: There is no such directory.
            ErofsError: It is damaged.
        """
        listed = self._listed.get(node)
        if listed is not None:
            self._listed.move_to_end(node)
            self._image.unclaimed = self._size
            return listed
        inode = self.inode(node)
        if inode.kind != _DIRECTORY:
            raise NoSuchNodeError
        listed = self._read_directory(inode)
        self._listed[node] = listed
        self._listed_entries += len(listed.nids)
        while self._listed_entries > _MAX_LISTED and len(self._listed) > 1:
            _, oldest = self._listed.popitem(last=False)
            self._listed_entries -= len(oldest.nids)
        return listed

    def _read_directory(self, inode: Inode) -> Listed:
        parent_nid = self._parents.get(inode.nid)
        if parent_nid is None:
            raise NoSuchNodeError  # the kernel has not looked it up, so it cannot know it
        listing = read_listing(self._image, inode, parent_nid)
        parents = self._parents
        for child in listing.subdirectories():
            if parents.setdefault(child, inode.nid) != inode.nid:
                raise ErofsError(f"directory inode {child} is named more than once", field="nid")
        names, nids, kinds = listing
        if self.view.hides_whiteouts:
            names, nids, kinds = self._without_whiteouts(inode, names, nids, kinds)
        return Listed(names, nids, kinds, parent_nid)

    def _without_whiteouts(
        self, directory: Inode, names: list[bytes], nids: list[int], kinds: list[int]
    ) -> tuple[list[bytes], list[int], list[int]]:
        may_have_marked = self._image.is_epoch1 and self._has(directory, WHITEOUTS_ATTRIBUTES)
        if not may_have_marked and _CHARACTER not in kinds:
            return names, nids, kinds
        self._image.unclaimed = self._size
        kept = [
            index
            for index, (nid, kind) in enumerate(zip(nids, kinds, strict=True))
            if not (kind == _CHARACTER or (kind == _REGULAR and may_have_marked))
            or not self._is_whiteout(nid)
        ]
        return [names[i] for i in kept], [nids[i] for i in kept], [kinds[i] for i in kept]

    def _is_whiteout(self, nid: int) -> bool:
        inode = self._image.inode(nid)
        if inode.kind == _CHARACTER:
            return inode.u == 0
        return not inode.size and inode.layout == DataLayout.PLAIN and self._has(inode, WHITEOUT_ATTRIBUTES)

    def _has(self, inode: Inode, marks: tuple[tuple[bytes, bytes], ...]) -> bool:
        attributes = self._image.attribute_list(inode)
        return all(mark in attributes for mark in marks)

    def xattrs(self, node: int) -> Mapping[bytes, bytes]:
        """Return the extended attributes of a file as they are presented.

        Raises:
            NoSuchNodeError: There is no such inode.
            ErofsError: It is damaged.
        """
        shown = self.known_xattrs.get(node)
        if shown is None:
            shown = self._read_xattrs(node)
            if len(self.known_xattrs) >= _MAX_KEPT:
                self.known_xattrs.clear()
            self.known_xattrs[node] = shown
        return shown

    def _read_xattrs(self, node: int) -> Mapping[bytes, bytes]:
        nid = self._nid_of(node)
        leaf = None
        with contextlib.suppress(ErofsError):  # files that others refuse have attributes all the same
            leaf = self._read_usual(nid, _REGULAR)
        if leaf is None:
            return present_all(self._image.attribute_list(self.inode(node)), self.view)
        # Nearly every file; this takes half the time.
        if type(leaf) is not ExternalFile or self.view is View.PLAIN:
            return self._present_own(leaf.xattrs)
        shown = self._present_external(leaf.object_id)
        return {**self._present_own(leaf.xattrs), **shown} if leaf.xattrs else shown

    def _present_own(self, own: Mapping[bytes, bytes]) -> Mapping[bytes, bytes]:
        """Return attributes of the tree as they are presented; many files share a mapping of them."""
        if not own:
            return own
        _, shown = self._presented.get(id(own), (None, None))
        if shown is None:
            shown = present_own(own, self.view)
            if len(self._presented) >= _MAX_KEPT:
                self._presented.clear()
            self._presented[id(own)] = own, shown  # which keeps the mapping, and so its identity
        return shown

    def content(self, node: int) -> Content:
        """Return the content of a regular file, or where it is.

        Raises:
            NoSuchNodeError: There is no such file.
            ErofsError: It is damaged.
        """
        content = self._contents.get(node)
        if content is None:
            content = self._read_content(node)
            if not isinstance(content, bytes) or len(content) <= _MAX_KEPT_BYTES:
                if len(self._contents) >= _MAX_KEPT:
                    self._contents.clear()
                self._contents[node] = content
        return content

    def _read_content(self, node: int) -> Content:
        nid = self._nid_of(node)
        leaf = self._read_usual(nid, _REGULAR)
        if leaf is None:
            inode = self._image.inode(nid)
            if inode.kind != _REGULAR:
                raise NoSuchNodeError
            leaf = self._leaves.read(inode, may_be_whiteout=False)
        match leaf:
            case InlineFile():
                return leaf.data
            case ExternalFile():
                return Stored(None, leaf.object_id, leaf.size)
            case RedirectedFile():
                return _redirected(leaf)
            case SparseFile():
                return Hole(leaf.size)
            case _:
                raise AssertionError(f"{type(leaf).__name__} is no regular file")

    def target(self, node: int) -> bytes:
        """Return where a symbolic link leads.

        Raises:
            NoSuchNodeError: There is no such link.
            ErofsError: It is damaged.
        """
        inode = self.inode(node)
        if inode.kind != DirentType.SYMLINK:
            raise NoSuchNodeError
        leaf = self._leaves.read(inode, may_be_whiteout=False)
        assert isinstance(leaf, Symlink)
        return leaf.target


def _redirected(file: RedirectedFile) -> Content:
    if not file.path and not file.size:
        return b""
    is_usual = file.digest is not None and file.path == object_path(file.digest).encode()
    return Stored(None if is_usual else file.path, file.digest, file.size)


def attributes_of(node: int, inode: Inode) -> tuple[int, ...]:
    """Return the fields of ``struct fuse_attr`` for an inode.

    Raises:
        ErofsError: It is larger than a file can be.
    """
    _, kind, _, mode, nlink, size, u, uid, gid, mtime_s, mtime_ns, _, _ = inode
    if size > _MAX_SIZE:
        raise ErofsError(f"file size {size} exceeds {_MAX_SIZE}", field="i_size")
    rdev = u if kind in {_CHARACTER, _BLOCK} else 0
    # Blocks as EROFS counts them: whole ones, in units of 512 bytes.
    return (
        node, size, (size + BLOCK_SIZE - 1) // BLOCK_SIZE * 8, mtime_s, mtime_s, mtime_s,
        mtime_ns, mtime_ns, mtime_ns, MODE_OF_KIND[kind] | mode, nlink, uid, gid, rdev, BLOCK_SIZE, 0,
    )  # fmt: skip


def _wrong_kind(inode: Inode, kind: int) -> ErofsError:
    return ErofsError(
        f"directory entry says type {kind}, inode {inode.nid} has type {inode.kind}",
        offset=inode.nid * SLOT_SIZE,
        field="file_type",
    )
