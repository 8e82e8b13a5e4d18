"""Which objects an image needs, without building its tree.

Collection and repository checks ask this of every image, so the way from an external file's inode to
its digest is short: the bytes that nearly every such inode ends in are compared, not decoded.
"""

from __future__ import annotations

import re
from array import array
from typing import TYPE_CHECKING, Final

from cfsctl.erofs.format import (
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    XATTR_METACOPY,
    XATTR_REDIRECT,
    DirentType,
    ErofsError,
)
from cfsctl.erofs.read.attributes import (
    find_metacopy_algorithm,
    find_redirect_algorithm,
    parse_metacopy,
    parse_redirect,
)
from cfsctl.erofs.read.directories import read_listing
from cfsctl.erofs.read.fastpath import object_collector
from cfsctl.erofs.read.image import Image
from cfsctl.erofs.read.structure import StructureChecker

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import Algorithm, ObjectID
    from cfsctl.erofs.format import Buffer, ImageBuffer
    from cfsctl.erofs.read.directories import Listing
    from cfsctl.erofs.read.image import Inode

_REGULAR: Final = int(DirentType.REGULAR)
_CHARACTER_DEVICE: Final = int(DirentType.CHARACTER)
_NUMBER_OFFSET: Final = 20
"""Where an inode has its number, of four bytes, which nothing reads."""

_WORTH_GROUPING: Final = 16
"""Devices in a row from which on it pays to look whether they are equal; root often has 256 whiteouts."""

_RUN: Final = re.compile(rb"\x03+")
"""Types of character devices that follow one another."""

_MAX_DEVICE: Final = 1024
"""Bytes of a device that still counts as usual."""


def collect_objects(data: ImageBuffer, algorithm: Algorithm, *, strict: bool = False) -> set[ObjectID]:
    """Return the IDs of all objects that an image names.

    Both the digests and the paths to objects count, also where a file has no digest.

    Args:
        data: The whole image.
        algorithm: Hash of the objects.
        strict: Refuse files whose digest and path name different objects, and what breaks a rule of the
            format that has nothing to do with objects.

    Raises:
        WrongAlgorithmError: The image names objects by the other hash.
        ErofsError: It is not a composefs image, or one that no writer has made.
    """
    return _Collector(Image(data), algorithm, strict=strict).run()


def find_algorithm(data: ImageBuffer) -> Algorithm | None:
    """Return the hash that an image names its objects by; None if it names none.

    A digest decides; where no file has one, the length of the first object's path does.

    Raises:
        ErofsError: It is not a composefs image, or is broken before the first digest.
    """
    image = Image(data)
    known: set[bytes] = set()
    guess: Algorithm | None = None
    for _, listing, _ in iter_directories(image):
        for nid in listing.nids:
            if image.seen[nid]:
                continue
            image.seen[nid] = 1
            inode = image.inode(nid)
            body = image.data[inode.body_start : inode.body_end]
            if not body or body in known:
                continue
            known.add(body)
            for name, value in image.attributes.decode(body):
                if name == XATTR_METACOPY and (found := find_metacopy_algorithm(value)):
                    return found
                if name == XATTR_REDIRECT and guess is None:
                    guess = find_redirect_algorithm(value)
    return guess


def iter_directories(image: Image) -> Iterator[tuple[Inode, Listing, bool]]:
    """Yield every directory with its children and whether it is root, parents before children.

    Directories are marked in `image.seen`; leaves are left to the caller. Memory is 8 bytes per
    directory that waits.

    Raises:
        ErofsError: A directory is malformed, or named twice.
    """
    root = image.root()
    # Inode and parent in one number. How deep a directory is does not matter here: each is entered once, and
    # images that are too deep to be read as trees must not keep a collection from knowing what they need.
    stack = array("Q", [_pack(root.nid, root.nid)])
    is_root = True
    while stack:
        nid, parent_nid = _unpack(stack.pop())
        inode = root if is_root else image.inode(nid)
        if inode.kind != DirentType.DIRECTORY:
            raise kind_mismatch(inode.nid, DirentType.DIRECTORY, inode.kind)
        listing = read_listing(image, inode, parent_nid)
        for child in listing.subdirectories():
            if image.seen[child]:
                raise ErofsError(f"directory inode {child} is named more than once", field="nid")
            image.seen[child] = 1
            stack.append(_pack(child, nid))
        yield inode, listing, is_root
        is_root = False


def kind_mismatch(nid: int, expected: int, found: int) -> ErofsError:
    """Return the error for an entry whose type is not that of its inode."""
    return ErofsError(
        f"directory entry says type {expected}, inode {nid} has type {found}",
        offset=nid * SLOT_SIZE,
        field="file_type",
    )


def _pack(nid: int, parent_nid: int) -> int:
    return parent_nid << 32 | nid


def _unpack(packed: int) -> tuple[int, int]:
    return packed & 0xFFFFFFFF, packed >> 32


def _find_runs(kinds: list[int]) -> Iterator[tuple[int, int]]:
    """Yield start and end of devices that follow one another; what else is in root stands between them."""
    try:
        types = bytes(kinds)
    except ValueError:
        return  # of types that there are not, which is found when they are visited
    for found in _RUN.finditer(types):
        if found.end() - found.start() >= _WORTH_GROUPING:
            yield found.span()


def _are_alike(data: Buffer, first: int, behind: int, step: int) -> bool:
    """Return whether all is equal in inodes in a row, except for their numbers."""
    distance = step * SLOT_SIZE
    if distance > _MAX_DEVICE or behind * SLOT_SIZE > len(data):
        return False
    area = bytearray(data[first * SLOT_SIZE : behind * SLOT_SIZE])
    count = len(area) // distance
    for place in range(_NUMBER_OFFSET, _NUMBER_OFFSET + 4):
        area[place::distance] = bytes(count)
    return area == area[:distance] * count


class _Collector:
    """One collection from one image."""

    def __init__(self, image: Image, algorithm: Algorithm, *, strict: bool) -> None:
        self._image = image
        self._algorithm = algorithm
        self._strict = strict
        self._structure = StructureChecker(image)
        self._found: set[ObjectID] = set()
        self._decoded: set[bytes] = set()

    def run(self) -> set[ObjectID]:
        image = self._image
        seen = image.seen
        is_done = object_collector(image, self._algorithm, self._found, self._decode_references)
        for directory, listing, is_root in iter_directories(image):
            self._decode(image.data[directory.body_start : directory.body_end])
            if is_root and self._strict:
                self._structure.check_root(listing.names)
            nids, kinds = listing.nids, listing.kinds
            if kinds.count(_CHARACTER_DEVICE) >= _WORTH_GROUPING:
                nids, kinds = self._visit_runs(listing, is_root=is_root)
            for nid, kind in zip(nids, kinds, strict=True):
                if not seen[nid]:
                    seen[nid] = 1
                    if kind != _REGULAR or not is_done(nid):
                        self._visit(nid, kind, is_root=is_root)
        return self._found

    def _visit_runs(self, listing: Listing, *, is_root: bool) -> tuple[list[int], list[int]]:
        """Collect from devices that follow one another; return inodes and types of what is left to visit."""
        nids: list[int] = []
        kinds: list[int] = []
        place = 0
        for start, end in _find_runs(listing.kinds):
            if self._visit_alike(listing.nids[start:end], is_root=is_root):
                nids += listing.nids[place:start]
                kinds += listing.kinds[place:start]
                place = end
        return nids + listing.nids[place:], kinds + listing.kinds[place:]

    def _visit_alike(self, nids: list[int], *, is_root: bool) -> bool:
        """Collect from devices in a row that are equal but for their numbers, by a look at the first one.

        Returns:
            Whether all are done. They are left for later if they differ, or do not lie in equal distances.
        """
        image, count = self._image, len(nids)
        first, step = nids[0], nids[1] - nids[0]
        behind = first + step * count
        if (
            step <= 0
            or nids != list(range(first, behind, step))
            or image.seen[first:behind:step].count(0) != count
            or not _are_alike(image.data, first, behind, step)
        ):
            return False
        image.seen[first] = 1
        size = self._visit(first, _CHARACTER_DEVICE, is_root=is_root).body_end - first * SLOT_SIZE
        if size > step * SLOT_SIZE:
            return False
        image.seen[first:behind:step] = b"\1" * count
        image.claim(size * (count - 1))
        return True

    def _visit(self, nid: int, kind: int, *, is_root: bool) -> Inode:
        """Collect from any leaf, the long way, and return it."""
        inode = self._image.inode(nid)
        if inode.kind != kind:
            raise kind_mismatch(nid, kind, inode.kind)
        if self._strict:
            self._structure.check_leaf(inode, in_root=is_root)
        self._decode(self._image.data[inode.body_start : inode.body_end])
        return inode

    def _decode_references(self, body: bytes) -> bool:
        if len(body) != XATTR_BODY_HEADER.size + 4 * body[4]:
            return False
        self._decode(body)
        return True

    def _decode(self, body: bytes) -> None:
        """Collect from an attribute body, unless an equal one was decoded already."""
        if not body or body in self._decoded:
            return
        self._decoded.add(body)
        attributes = self._image.attributes.decode(body)
        digests: set[ObjectID] = set()
        paths: set[ObjectID] = set()
        for name, value in attributes:
            if name == XATTR_METACOPY and (digest := parse_metacopy(value, self._algorithm)):
                digests.add(digest)
            elif name == XATTR_REDIRECT and (path := parse_redirect(value, self._algorithm)):
                paths.add(path)
        if self._strict and digests and digests != paths:
            raise ErofsError("digest and path of an external file name different objects", field="redirect")
        self._found |= digests | paths
