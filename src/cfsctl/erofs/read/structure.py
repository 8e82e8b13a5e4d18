"""Rules that every image of one format follows, as composefs-rs checks them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import (
    BLOCK_SIZE,
    SLOT_SIZE,
    STUB_NAMES,
    WHITEOUT_ATTRIBUTES,
    DataLayout,
    DirentType,
    ErofsError,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.erofs.read.image import Image, Inode


class StructureChecker:
    """Checks the inodes of one image while the caller visits them."""

    def __init__(self, image: Image) -> None:
        """Take the image, whose format decides about the rules."""
        self._image = image

    def check_root(self, names: Iterable[bytes]) -> None:
        """Refuse a root of V0 or V1 without an entry of any kind for each stub.

        Raises:
            ErofsError: Some are missing.
        """
        if not self._image.is_epoch1:
            return
        count = len(_STUBS.intersection(names))
        if count != len(_STUBS):
            raise ErofsError(
                f"Invalid image: Epoch1 image has {count} hex-named root entries, "
                f"expected {len(_STUBS)} (00-ff)"
            )

    def check_leaf(self, inode: Inode, *, in_root: bool) -> None:
        """Refuse a leaf that the writer of this format does not make.

        Raises:
            ErofsError: The image has been made by something else.
        """
        match inode.kind:
            case DirentType.SYMLINK if self._image.is_epoch1 and inode.layout == DataLayout.INLINE:
                _check_inline_symlink(inode)
            case DirentType.CHARACTER if self._image.is_epoch1 and inode.u == 0 and not in_root:
                raise ErofsError(
                    "Invalid image: Epoch1 image contains native whiteout outside root stubs",
                    offset=inode.nid * SLOT_SIZE,
                )
            case DirentType.REGULAR if not self._image.is_epoch1 and inode.size == 0:
                self._check_whiteout(inode)

    def _check_whiteout(self, inode: Inode) -> None:
        """Refuse an empty file that carries the marks of an escaped whiteout.

        The original looks at the first mark alone, and so refuses its own images of files on which the
        tree itself has that attribute.
        """
        attributes = self._image.attribute_list(inode)
        if all(mark in attributes for mark in WHITEOUT_ATTRIBUTES):
            raise ErofsError(
                "Invalid image: Epoch2 image contains escaped whiteout", offset=inode.nid * SLOT_SIZE
            )


_STUBS: Final = frozenset(STUB_NAMES)


def _check_inline_symlink(inode: Inode) -> None:
    """Refuse a link whose target crosses a block, which kernels before 6.12 answer with EUCLEAN."""
    position = inode.nid * SLOT_SIZE % BLOCK_SIZE
    meta = inode.body_end - inode.nid * SLOT_SIZE
    tail = inode.size % BLOCK_SIZE
    if tail and position + meta + tail > BLOCK_SIZE:
        raise ErofsError(
            f"Invalid image: inode at nid {inode.nid} (FlatInline symlink, inode_pos_in_block={position}, "
            f"inode_and_xattr_size={meta}, inline_size={tail}) would trigger EUCLEAN on kernels older than "
            f"6.12: {position} + {meta} + {tail} = {position + meta + tail} > {BLOCK_SIZE}",
            offset=inode.nid * SLOT_SIZE,
        )
