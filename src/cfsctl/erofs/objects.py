"""Which objects an image needs, without building its tree.

Collection and repository checks ask this of every image, so the way from an external file's inode to
its digest is short: the bytes that nearly every such inode ends in are compared, not decoded.
"""

from __future__ import annotations

import stat
import struct
from array import array
from binascii import hexlify
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.erofs.attributes import (
    external_tail,
    find_metacopy_algorithm,
    parse_metacopy,
    parse_redirect,
    separate,
)
from cfsctl.erofs.format import (
    MAX_DEPTH,
    SLOT_SIZE,
    XATTR_BODY_HEADER,
    XATTR_METACOPY,
    XATTR_REDIRECT,
    DirentType,
    ErofsError,
)
from cfsctl.erofs.image import KNOWN_I_FORMATS, Image
from cfsctl.erofs.structure import StructureChecker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import Algorithm
    from cfsctl.erofs.format import ImageBuffer
    from cfsctl.erofs.image import Inode, Listing

_REGULAR: Final = int(DirentType.REGULAR)
_REGULAR_MODE: Final = stat.S_IFREG >> 12

_START: Final = struct.Struct("<HHH")
"""How every inode begins: i_format, i_xattr_icount, i_mode."""


def collect_objects(data: ImageBuffer, algorithm: Algorithm, *, strict: bool = False) -> set[ObjectID]:
    """Return the IDs of all objects that an image names.

    Both the digests and the paths to objects count, also where a file has no digest.

    Args:
        data: The whole image.
        algorithm: Hash of the objects.
        strict: Refuse files whose digest and path name different objects.

    Raises:
        WrongAlgorithmError: The image names objects by the other hash.
        ErofsError: It is no composefs image, or one that no writer has made.
    """
    return _Collector(Image(data), algorithm, strict=strict).run()


def find_algorithm(data: ImageBuffer) -> Algorithm | None:
    """Return the hash that an image names its objects by; None where it names none by digest.

    Raises:
        ErofsError: It is no composefs image, or is broken before the first digest.
    """
    image = Image(data)
    known: set[bytes] = set()
    for _, listing, _ in iter_directories(image):
        for nid in listing.nids:
            if image.seen[nid]:
                continue
            inode = image.inode(nid)
            body = image.data[inode.body_start : inode.body_end]
            if not body or body in known:
                continue
            known.add(body)
            metacopy = separate(image.attributes.decode(body)).metacopy
            if metacopy is not None and (found := find_metacopy_algorithm(metacopy)):
                return found
    return None


def iter_directories(image: Image) -> Iterator[tuple[Inode, Listing, bool]]:
    """Yield every directory with its children and whether it is root, parents before children.

    Directories are marked in `image.seen`; leaves are left to the caller. Memory is 8 bytes per
    directory that waits.

    Raises:
        ErofsError: A directory is malformed, named twice, or too deep.
    """
    root = image.root()
    # Inode, parent and depth in one number: 25, 25 and 12 bits for an image of 1 GiB.
    stack = array("Q", [_pack(root.nid, root.nid, 0)])
    inode = root
    while stack:
        nid, parent_nid, depth = _unpack(stack.pop())
        if depth >= MAX_DEPTH:
            raise ErofsError(f"Maximum directory depth exceeded ({MAX_DEPTH})", field="depth")
        inode = root if depth == 0 else image.inode(nid)
        if inode.kind != DirentType.DIRECTORY:
            raise kind_mismatch(inode.nid, DirentType.DIRECTORY, inode.kind)
        listing = image.listing(inode, parent_nid)
        for child in listing.subdirectories():
            if image.seen[child]:
                raise ErofsError(f"directory inode {child} is named more than once", field="nid")
            image.seen[child] = 1
            stack.append(_pack(child, nid, depth + 1))
        yield inode, listing, depth == 0


def kind_mismatch(nid: int, expected: int, found: int) -> ErofsError:
    """Return the error for an entry whose type is not that of its inode."""
    return ErofsError(
        f"directory entry says type {expected}, inode {nid} has type {found}",
        offset=nid * SLOT_SIZE,
        field="file_type",
    )


def _pack(nid: int, parent_nid: int, depth: int) -> int:
    return depth << 50 | parent_nid << 25 | nid


def _unpack(packed: int) -> tuple[int, int, int]:
    return packed & 0x1FFFFFF, packed >> 25 & 0x1FFFFFF, packed >> 50


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
        is_plain = _short_way(image, self._algorithm, self._found, self._decode)
        for directory, listing, is_root in iter_directories(image):
            self._decode(image.data[directory.body_start : directory.body_end])
            if is_root:
                self._structure.check_root(listing.names)
            for nid, kind in zip(listing.nids, listing.kinds, strict=True):
                if not seen[nid]:
                    seen[nid] = 1
                    if kind != _REGULAR or not is_plain(nid):
                        self._visit(nid, kind, is_root=is_root)
        return self._found

    def _visit(self, nid: int, kind: int, *, is_root: bool) -> None:
        """Collect from any leaf, the long way."""
        inode = self._image.inode(nid)
        if inode.kind != kind:
            raise kind_mismatch(nid, kind, inode.kind)
        self._structure.check_leaf(inode, in_root=is_root)
        self._decode(self._image.data[inode.body_start : inode.body_end])

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


def _short_way(
    image: Image, algorithm: Algorithm, found: set[ObjectID], decode: Callable[[bytes], None]
) -> Callable[[int], bool]:
    """Return a function that collects from one regular file if it is like most, or else returns False."""
    data, size = image.data, len(image.data)
    tail_size, metacopy, digest_end, redirect_offset, redirect, path_offset = external_tail(algorithm)
    digest_offset = len(metacopy)
    path_end = path_offset + 2 * algorithm.digest_size + 1
    unpack, add, header_size = _START.unpack_from, found.add, XATTR_BODY_HEADER.size
    prefixes: set[bytes] = set()

    def collect(nid: int) -> bool:
        offset = nid << 5
        i_format, icount, mode = unpack(data, offset)
        if mode >> 12 != _REGULAR_MODE or i_format not in KNOWN_I_FORMATS:
            return False
        start = offset + (64 if i_format & 1 else 32)
        if not icount:
            return start <= size
        end = start + 8 + icount * 4
        tail = end - tail_size
        if (
            data[tail : tail + digest_offset] != metacopy
            or data[tail + redirect_offset : tail + path_offset] != redirect
        ):
            return False
        prefix = data[start:tail]
        if prefix not in prefixes:
            if len(prefix) < header_size or len(prefix) != header_size + 4 * prefix[4]:
                return False
            decode(prefix)
            prefixes.add(prefix)
        digest = data[tail + digest_offset : tail + digest_end]
        text = hexlify(digest)
        if data[tail + path_offset : tail + path_end] != text[:2] + b"/" + text[2:]:
            return False
        image.unclaimed -= end - offset
        add(ObjectID(digest))
        return True

    return collect
