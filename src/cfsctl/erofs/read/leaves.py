"""Leaves of the tree from their inodes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.digest import object_path
from cfsctl.erofs.format import (
    BLOCK_SIZE,
    MAX_SYMLINK_LENGTH,
    NULL_CHUNK,
    SLOT_SIZE,
    WHITEOUT_ATTRIBUTES,
    XATTR_BODY_HEADER,
    DataLayout,
    DirentType,
    ErofsError,
)
from cfsctl.erofs.read.attributes import NOTHING, Separated, parse_metacopy, parse_redirect, separate
from cfsctl.tree.dumped import RedirectedFile
from cfsctl.tree.model import (
    BlockDevice,
    CharDevice,
    ExternalFile,
    Fifo,
    InlineFile,
    Leaf,
    Socket,
    SparseFile,
    Symlink,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import Algorithm
    from cfsctl.erofs.read.attributes import Attribute
    from cfsctl.erofs.read.image import Image, Inode

# As plain numbers, which are found and compared faster than members.
_REGULAR: Final = int(DirentType.REGULAR)
_SYMLINK: Final = int(DirentType.SYMLINK)

_CHUNK_BITS_MASK: Final = 0x1F
"""Bits of i_u that hold the chunk size; the next one would mean chunk indexes of eight bytes."""


class LeafReader:
    """Makes leaves of one image."""

    def __init__(self, image: Image, algorithm: Algorithm) -> None:
        """Take the image and the hash of its objects."""
        self._image = image
        self._algorithm = algorithm
        self._shared_only: dict[bytes, Separated] = {}

    def read(self, inode: Inode, *, may_be_whiteout: bool) -> Leaf:
        """Return the leaf that an inode describes.

        Args:
            inode: Anything but a directory.
            may_be_whiteout: The directory is marked as one with escaped whiteouts in it.

        Raises:
            ErofsError: The inode contradicts itself or the format.
        """
        kind = inode.kind
        if kind == _REGULAR:
            return self._regular(inode, may_be_whiteout=may_be_whiteout)
        own = self.separated(inode).own
        if kind == _SYMLINK:
            return Symlink(self._target(inode), *_stat(inode), own)
        return self._special(inode, own)

    def _special(self, inode: Inode, own: Mapping[bytes, bytes]) -> Leaf:
        match inode.kind:
            case DirentType.CHARACTER:
                if inode.u == 0 and inode.nlink > 1:
                    raise _linked_whiteout(inode)
                return CharDevice(inode.u, *_stat(inode), own)
            case DirentType.BLOCK:
                return BlockDevice(inode.u, *_stat(inode), own)
            case DirentType.FIFO:
                return Fifo(*_stat(inode), own)
            case DirentType.SOCKET:
                return Socket(*_stat(inode), own)
            case _:
                raise AssertionError(f"kind {inode.kind} is not a leaf")

    def separated(self, inode: Inode) -> Separated:
        """Return the attributes of an inode that has none of the marks of whiteouts.

        Raises:
            ErofsError: They cannot be decoded.
        """
        if inode.body_start == inode.body_end:
            return NOTHING
        return self.separated_body(self._image.data[inode.body_start : inode.body_end])

    def separated_body(self, body: bytes) -> Separated:
        """Return the attributes of a body; bodies of nothing but references are remembered.

        Raises:
            ErofsError: They cannot be decoded.
        """
        if len(body) != XATTR_BODY_HEADER.size + 4 * body[4]:
            return separate(self._image.attributes.decode(body))
        known = self._shared_only.get(body)
        if known is None:
            known = separate(self._image.attributes.decode(body))
            self._shared_only[body] = known
        return known

    def own_of_references(self, body: bytes) -> Mapping[bytes, bytes] | None:
        """Return the tree's attributes in a body of nothing but references; None for any other.

        Raises:
            ErofsError: They cannot be decoded.
        """
        if len(body) != XATTR_BODY_HEADER.size + 4 * body[4]:
            return None
        separated = self.separated_body(body)
        return separated.own if separated.metacopy is None and separated.redirect is None else None

    def _regular(self, inode: Inode, *, may_be_whiteout: bool) -> Leaf:
        if may_be_whiteout and inode.size == 0 and inode.layout == DataLayout.PLAIN:
            attributes = self._image.attribute_list(inode)
            # An empty file of the tree with both marks, next to a whiteout, is taken for one too; that
            # changes no image.
            if all(mark in attributes for mark in WHITEOUT_ATTRIBUTES):
                return _whiteout(inode, attributes)
        separated = self.separated(inode)
        if separated.metacopy is None and separated.redirect is None and inode.layout != DataLayout.CHUNK:
            return self._inline(inode, separated)
        return self._external(inode, separated)

    def _inline(self, inode: Inode, separated: Separated) -> InlineFile:
        if inode.size >= BLOCK_SIZE and not self._image.is_epoch1:
            raise ErofsError(
                f"inline regular file has size {inode.size} (V2 images hold less than {BLOCK_SIZE})",
                field="i_size",
            )
        return InlineFile(self._image.content(inode), *_stat(inode), separated.own)

    def _external(self, inode: Inode, separated: Separated) -> Leaf:
        """Return a file whose content is elsewhere, or nothing but a hole."""
        if separated.metacopy is None:
            raise ErofsError("external file without trusted.overlay.metacopy", field="xattr")
        digest = parse_metacopy(separated.metacopy, self._algorithm)
        if inode.layout != DataLayout.CHUNK:
            raise ErofsError("external file: expected a chunk-based inode", field="i_format")
        self._check_chunks(inode, is_indexed=digest is not None or self._image.is_epoch1)
        if digest is None and separated.redirect is None:
            return SparseFile(inode.size, *_stat(inode), separated.own)
        path = (separated.redirect or b"").removeprefix(b"/")
        object_id = digest or parse_redirect(path, self._algorithm)
        if object_id is None or path != object_path(object_id).encode():
            # Only the C writer makes these; the tree keeps what the image says.
            return RedirectedFile(path, inode.size, digest, *_stat(inode), separated.own)
        leaf = ExternalFile(object_id, inode.size, *_stat(inode), separated.own)
        leaf.has_digest = digest is not None
        return leaf

    def _check_chunks(self, inode: Inode, *, is_indexed: bool) -> None:
        """Check that a file whose data is elsewhere has no data here.

        Args:
            inode: A chunk-based file.
            is_indexed: The writer gives it chunk indexes. In V2 files without digest have none.
        """
        if inode.size >= 1 << 63:
            raise ErofsError(f"file size {inode.size} exceeds {(1 << 63) - 1}", field="i_size")
        if not is_indexed:
            return
        count = _chunk_count(inode, is_epoch1=self._image.is_epoch1)
        if inode.u > _CHUNK_BITS_MASK and not _may_be_promoted(inode, count):
            raise ErofsError(f"unknown chunk format {inode.u:#x}", field="i_u")
        if _may_be_promoted(inode, count):
            return
        self._image.claim(4 * count)
        indexes = self._image.data[inode.body_end : inode.body_end + 4 * count]
        if indexes != NULL_CHUNK * count:
            raise ErofsError("chunk of an external file is not null", field="chunk index")

    def _target(self, inode: Inode) -> bytes:
        if inode.size > MAX_SYMLINK_LENGTH:
            raise ErofsError(
                f"symlink target is {inode.size} bytes (max {MAX_SYMLINK_LENGTH})", field="i_size"
            )
        target = self._image.content(inode)
        if b"\0" in target:
            raise ErofsError("symlink target contains NUL", field="symlink target")
        return target


def _stat(inode: Inode) -> tuple[int, int, int, int, int]:
    _, _, _, mode, _, _, _, uid, gid, mtime_s, mtime_ns, _, _ = inode
    return mode, uid, gid, mtime_s, mtime_ns


def _whiteout(inode: Inode, attributes: list[Attribute]) -> CharDevice:
    if inode.nlink > 1:
        raise _linked_whiteout(inode)
    own: Mapping[bytes, bytes] = separate(attributes, WHITEOUT_ATTRIBUTES).own
    return CharDevice(0, *_stat(inode), own)


def _linked_whiteout(inode: Inode) -> ErofsError:
    return ErofsError(
        f"invalid composefs image: whiteout inode {inode.nid} has nlink > 1 ({inode.nlink})", field="i_nlink"
    )


def _chunk_count(inode: Inode, *, is_epoch1: bool) -> int:
    """Return how many chunk indexes the writer gives a file."""
    if not is_epoch1:
        return 1
    return -(-inode.size >> 12 + (inode.u & _CHUNK_BITS_MASK))


def _may_be_promoted(inode: Inode, count: int) -> bool:
    """Return whether so many indexes behind such attributes do not fit a block.

    The writer moves them to a data block then, without the kernel being able to find them there; see
    `cfsctl.erofs.write.layout`. Such files have 8 PiB or nearly so.
    """
    return 4 * count + (inode.body_end - inode.body_start) % SLOT_SIZE > BLOCK_SIZE
