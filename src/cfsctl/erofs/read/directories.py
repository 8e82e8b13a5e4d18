"""Directory listings of an image.

A directory is a sequence of chunks of at most a block; each chunk is an array of entries, then their
names without separators. Names ascend through all chunks, `.` and `..` among them.
"""

from __future__ import annotations

import operator
import struct
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cfsctl.erofs.format import DIRENT, MAX_NAME_LENGTH, DirentType, ErofsError
from cfsctl.erofs.read.image import show

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from cfsctl.erofs.read.image import Image, Inode

_DIRECTORY: Final = int(DirentType.DIRECTORY)
_ROOTS_KEPT: Final = 8
"""Root directories of up to a block that are remembered, each with at most 340 entries."""
_FEW: Final = 4
"""Subdirectories up to which it is faster to search for each."""


class Listing(NamedTuple):
    """The children of a directory in name order; `.` and `..` are checked and skipped.

    Attributes:
        names: Names, strictly ascending.
        nids: Inode of each.
        kinds: Type of each as the entry says, a `DirentType`.
    """

    names: list[bytes]
    nids: list[int]
    kinds: list[int]

    def subdirectories(self) -> list[int]:
        """Return the inodes of entries that say they are directories."""
        count = self.kinds.count(_DIRECTORY)
        if count < _FEW:
            return list(self._iter_subdirectories(count))
        return [nid for nid, kind in zip(self.nids, self.kinds, strict=True) if kind == _DIRECTORY]

    def _iter_subdirectories(self, count: int) -> Iterator[int]:
        """Yield a few of them; the search for the next one takes no step in Python."""
        place = -1
        for _ in range(count):
            place = self.kinds.index(_DIRECTORY, place + 1)
            yield self.nids[place]


def read_listing(image: Image, directory: Inode, parent_nid: int) -> Listing:
    """Return the children of a directory.

    Raises:
        ErofsError: Entries are malformed, unsorted, or have names that no file can have; `.` or `..`
            lead elsewhere; or the link count is not 2 and one per subdirectory.
    """
    pieces = image.pieces(directory)
    if directory.nid == parent_nid and len(pieces) == 1:
        names, nids, kinds, highest = _parse_root(pieces[0], parent_nid)
        names, nids, kinds = names.copy(), nids.copy(), kinds.copy()
    else:
        names, nids, kinds, highest = _parse(pieces, directory.nid, parent_nid)
    if highest > image.max_nid:
        raise ErofsError(f"Invalid inode: {highest} (the image ends at {image.max_nid})", field="nid")
    subdirectories = kinds.count(_DIRECTORY)
    if directory.nlink != 2 + subdirectories:
        raise ErofsError(
            f"directory nlink mismatch: on-disk nlink is {directory.nlink}, "
            f"expected {2 + subdirectories} (2 + {subdirectories} subdirectories)",
            field="i_nlink",
        )
    return tuple.__new__(Listing, (names, nids, kinds))  # half the time of calling the class


class _Parsed(NamedTuple):
    """A listing of which everything is checked that does not depend on the rest of the image.

    Attributes:
        names: As of `Listing`.
        nids: As of `Listing`.
        kinds: As of `Listing`.
        highest: Highest number of an inode, or -1 if there is none.
    """

    names: list[bytes]
    nids: list[int]
    kinds: list[int]
    highest: int


def _parse(pieces: Sequence[bytes], nid: int, parent_nid: int) -> _Parsed:
    """Return the children that the content of a directory lists.

    Args:
        pieces: The content, by blocks.
        nid: Where `.` must lead.
        parent_nid: Where `..` must lead.
    """
    names, nids, kinds = _parse_chunk(pieces[0]) if pieces else ([], [], [])
    for chunk in pieces[1:]:
        more_names, more_nids, more_kinds = _parse_chunk(chunk)
        names += more_names
        nids += more_nids
        kinds += more_kinds
    if not all(map(operator.lt, names, names[1:])):
        raise _disorder(names)
    if names[:2] == _DOTS and nids[0] == nid and nids[1] == parent_nid and kinds[0] == kinds[1] == _DIRECTORY:
        del names[:2], nids[:2], kinds[:2]
    else:
        _take(names, nids, kinds, b".", nid)
        _take(names, nids, kinds, b"..", parent_nid)
    # Made so in half the time of calling the class.
    return tuple.__new__(_Parsed, (names, nids, kinds, max(nids, default=-1)))


@lru_cache(maxsize=_ROOTS_KEPT)
def _parse_root(content: bytes, nid: int) -> _Parsed:
    """Return the children that the content of a root directory lists; the caller must not change them.

    Root has 256 whiteouts, and in images of trees that are alike, it has the same bytes. All of them are
    compared, so what is found for one image holds for the other.
    """
    return _parse([content], nid, nid)


_DOTS: Final = [b".", b".."]
"""How nearly every listing begins; only names that start with bytes below the dot come before."""


class _EntryArrays(dict[int, "Callable[[bytes], tuple[Any, ...]]"]):
    """Decoder of an array of entries by its size in bytes: nid, name offset and type of each in turn."""

    def __missing__(self, size: int) -> Callable[[bytes], tuple[Any, ...]]:
        unpack = struct.Struct("<" + "QHH" * (size // DIRENT.size)).unpack_from
        self[size] = unpack
        return unpack


_ENTRY_ARRAYS: Final = _EntryArrays()


def _parse_chunk(chunk: bytes) -> tuple[list[bytes], list[int], list[int]]:
    """Return names, inodes and types of the entries of one chunk.

    The first name's offset is the size of the array. Zeros behind the last name fill the block.
    """
    first = int.from_bytes(chunk[8:10], "little") if len(chunk) >= DIRENT.size else 0
    if not first or first % DIRENT.size or first > len(chunk):
        raise ErofsError(
            f"Invalid image: invalid directory entry name_offset {first} in a chunk of {len(chunk)} bytes",
            field="nameoff",
        )
    entries = list(_ENTRY_ARRAYS[first](chunk))
    starts = entries[1::3]
    used = chunk.rstrip(b"\0")
    names = [used[start:end] for start, end in pairwise(starts)]
    names.append(used[starts[-1] :])
    # Offsets that go back or point behind the last name leave an empty name somewhere.
    if not all(names):
        raise ErofsError("directory entry without a name, or names out of bounds", field="nameoff")
    if used.find(b"/", first) >= 0 or used.find(b"\0", first) >= 0:
        raise ErofsError("directory entry name with '/' or NUL", field="name")
    if len(used) - first > MAX_NAME_LENGTH:
        _check_lengths(names)
    return names, entries[::3], entries[2::3]


def _check_lengths(names: Sequence[bytes]) -> None:
    longest = max(map(len, names))
    if longest > MAX_NAME_LENGTH:
        raise ErofsError(
            f"directory entry name of {longest} bytes, expected at most {MAX_NAME_LENGTH}", field="name"
        )


def _take(names: list[bytes], nids: list[int], kinds: list[int], name: bytes, expected: int) -> None:
    """Remove `.` or `..` and check where it leads."""
    try:
        index = names.index(name)
    except ValueError:
        index = -1
    if index < 0 or nids[index] != expected or kinds[index] != _DIRECTORY:
        found = "none" if index < 0 else f"inode {nids[index]} of type {kinds[index]}"
        raise ErofsError(
            f"Invalid '{name.decode()}' entry in directory: expected inode {expected}, found {found}",
            field="nid",
        )
    del names[index], nids[index], kinds[index]


def _disorder(names: Sequence[bytes]) -> ErofsError:
    for before, after in pairwise(names):
        if before == after:
            return ErofsError(f'Duplicate directory entry "{show(after)}"', field="name")
        if before > after:
            return ErofsError(f'directory entries out of order: "{show(after)}"', field="name")
    raise AssertionError("names are in order")
