"""Dirmeta and dirtree."""

from __future__ import annotations

import stat
import struct
from itertools import islice
from operator import lt
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from cfsctl.digest import Checksum
from cfsctl.gvariant.framing import is_minimal
from cfsctl.ostree.objects._base import (
    CHECKSUM_SIZE,
    MAX_METADATA_SIZE,
    MAX_UNSORTED_SIZE,
    check_range,
    element_ends,
    fail,
    iter_elements,
    join_elements,
    join_members,
    offset_width,
    split_members,
)
from cfsctl.ostree.objects._names import Xattrs, check_names, format_xattrs, parse_xattrs, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence


class Dirtree(NamedTuple):
    """Entries of one directory, in stored order.

    Attributes:
        files: (name, checksum of the file) of regular files and symbolic links.
        dirs: (name, checksum of the dirtree, checksum of the dirmeta).
    """

    files: list[tuple[bytes, Checksum]]
    dirs: list[tuple[bytes, Checksum, Checksum]]


class Dirmeta(NamedTuple):
    """Metadata of a directory; `mode` carries the type bits of a directory."""

    uid: int
    gid: int
    mode: int
    xattrs: Xattrs


_DIRMETA: Final = struct.Struct(">III")


def parse_dirmeta(data: bytes | memoryview) -> Dirmeta:
    """Decode a dirmeta.

    Raises:
        OstreeObjectError: Not in normal form, not the mode of a directory, bits outside type and
            07777, or broken extended attributes.
    """
    uid, gid, mode, xattrs = unpack_dirmeta(data)
    return Dirmeta(uid, gid, mode, parse_xattrs(xattrs) if xattrs else ())


def unpack_dirmeta(data: bytes | memoryview) -> tuple[int, int, int, bytes]:
    """Return owner, group and mode, which is checked, and extended attributes as they are.

    Raises:
        OstreeObjectError: Too short, or not the mode of a directory.
    """
    data = bytes(data)
    if len(data) < 12:
        fail("dirmeta", "at least 12 bytes", len(data))
    uid, gid, mode = _DIRMETA.unpack_from(data)
    _check_directory_mode(mode)
    return uid, gid, mode, data[12:]


def format_dirmeta(meta: Dirmeta) -> bytes:
    """Serialise a dirmeta, extended attributes in the order given.

    Raises:
        OstreeObjectError: Something that `parse_dirmeta` would refuse.
    """
    _check_directory_mode(meta.mode)
    check_range("uid", meta.uid, 32)
    check_range("gid", meta.gid, 32)
    return _DIRMETA.pack(meta.uid, meta.gid, meta.mode) + format_xattrs(meta.xattrs)


def _check_directory_mode(mode: int) -> None:
    if mode & ~0o7777 != stat.S_IFDIR:
        fail("mode", "the type of a directory and bits within 07777", f"{mode:#o}")


PIECE_ENTRIES: Final = 1 << 16
"""Entries of a directory that are decoded together; real directories have less."""


def parse_dirtree(data: bytes | memoryview) -> Dirtree:
    """Decode a dirtree.

    Entries may come in any order, as libostree allows, as long as they are not very many; everything else is
    as a writer makes it.

    Raises:
        OstreeObjectError: Not in normal form, an identifier that has not 32 bytes, a name that is no
            path component, or a name that occurs twice, be it as file or as directory.
    """
    pieces = list(iter_dirtree(data))
    if len(pieces) == 1:
        return pieces[0]
    return Dirtree(
        [entry for piece in pieces for entry in piece.files],
        [entry for piece in pieces for entry in piece.dirs],
    )


def iter_dirtree(data: bytes | memoryview) -> Iterator[Dirtree]:
    """Decode a dirtree in pieces, so that a large one need not be in memory as a whole.

    Yields:
        Entries in stored order: directories first if there is more than one piece. What is wrong with the
        tree may become known after some pieces.

    Raises:
        OstreeObjectError: As `parse_dirtree`.
    """
    data = bytes(data)
    middle, table = _split_dirtree(data)
    file_ends = element_ends(data, "files", 0, middle) if middle else ()
    dir_ends = element_ends(data, "dirs", middle, table) if middle < table else ()
    if len(file_ends) + len(dir_ends) <= PIECE_ENTRIES:
        files = _read_files(data, 0, file_ends) if middle else []
        dirs = _read_dirs(data, middle, dir_ends) if middle < table else []
        names = [entry[0] for entry in files]
        if dirs:
            names += [entry[0] for entry in dirs]
        if names:
            check_names(names)
        yield Dirtree(files, dirs)
        return
    yield from _iter_pieces(data, middle, file_ends, dir_ends)


def _split_dirtree(data: bytes) -> tuple[int, int]:
    """Return where the files of a dirtree end, and where its directories do."""
    size = len(data)
    if size > MAX_METADATA_SIZE:
        fail("dirtree", f"at most {MAX_METADATA_SIZE} bytes", size)
    width = offset_width(size)
    table = size - width
    middle = int.from_bytes(data[table:], "little") if table > 0 else 0
    if table < 0 or middle > table or (not table and data[0]):
        fail("dirtree", f"the end of the files within {max(table, 0)} bytes", f"{middle} of {size} bytes")
    if width > 1 and not is_minimal(table, 1, size):
        fail("dirtree", "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    return middle, table


def _iter_pieces(
    data: bytes, middle: int, file_ends: Sequence[int], dir_ends: Sequence[int]
) -> Iterator[Dirtree]:
    """Yield the entries of a large directory in pieces."""
    must_ascend = len(data) > MAX_UNSORTED_SIZE
    seen: set[bytes] = set()
    last = b""
    for start, ends in _cut(dir_ends):
        dirs = _read_dirs(data, middle, ends, start, dir_ends[-1])
        last = _check_piece([entry[0] for entry in dirs], seen, last if must_ascend else None)
        seen.update([entry[0] for entry in dirs])
        yield Dirtree([], dirs)
    last = b""
    for start, ends in _cut(file_ends):
        files = _read_files(data, 0, ends, start, file_ends[-1])
        last = _check_piece([entry[0] for entry in files], seen, last if must_ascend else None)
        if not must_ascend:
            seen.update([entry[0] for entry in files])
        yield Dirtree(files, [])


def _check_piece(names: list[bytes], seen: set[bytes], last: bytes | None) -> bytes:
    """Check the names of a piece of a directory; return the last one.

    Args:
        names: The names.
        seen: Names of earlier pieces, if they are not known to be smaller.
        last: The last name of the piece before, if names have to ascend: then none of them occurs twice, and
            they need not be kept.
    """
    check_names(names)
    if last is not None and not (last < names[0] and all(map(lt, names, islice(names, 1, None)))):
        fail("dirtree", f"names in ascending order, above {MAX_UNSORTED_SIZE} bytes", "another order")
    if not seen.isdisjoint(names):
        fail("name", "each name once", f"{shown(next(name for name in names if name in seen))} twice")
    return names[-1]


def _cut(ends: Sequence[int]) -> Iterator[tuple[int, Sequence[int]]]:
    """Yield pieces of a table of ends, each with where its first element starts."""
    for place in range(0, len(ends), PIECE_ENTRIES):
        yield ends[place - 1] if place else 0, ends[place : place + PIECE_ENTRIES]


def _refuse_size(_array: bytes, _start: int) -> NoReturn:
    """Stand in for the reader of an element too small to hold a name."""
    raise IndexError


_FILE_READERS: Final[list[Callable[[bytes, int], tuple[Any, ...]]]] = [
    *[_refuse_size] * 35,
    *[struct.Struct(f"{size - 34}sx32sx").unpack_from for size in range(35, 256)],
]
"""Readers of ``(say)`` by element size; one call of C makes the name, the checksum and their tuple."""

_DIR_READERS: Final[list[Callable[[bytes, int], tuple[Any, ...]]]] = [
    *[_refuse_size] * 68,
    *[struct.Struct(f"{size - 67}sx32s32s2x").unpack_from for size in range(68, 256)],
]
"""Readers of ``(sayay)`` by element size."""


def _read_files(
    data: bytes, base: int, ends: Sequence[int], start: int = 0, limit: int | None = None
) -> list[tuple[bytes, Checksum]]:
    """Decode elements of ``a(say)``: name, NUL, 32 bytes, the end of the name in one byte or, if long, two.

    Args:
        data: The dirtree.
        base: Where the array begins in it.
        ends: Where each element ends in the array.
        start: Where the first one starts in the array.
        limit: Where the last one of the array ends, if that is not among `ends`.
    """
    try:
        return _read_short_files(data, base, ends, start)
    except IndexError:
        elements = iter_elements(data, ends, "files", base, start, limit)
        members = (split_members(element, 1, "files") for element in elements)
        return [(_entry_name(name, "files"), _entry_id(checksum, "files")) for name, checksum in members]


def _read_short_files(
    data: bytes, base: int, ends: Sequence[int], start: int
) -> list[tuple[bytes, Checksum]]:
    """Decode ``a(say)`` while every element is sound and has one-byte offsets; else raise IndexError.

    The last byte of an element, the end of its name, ties its size to the offset table: with it right,
    ends ascend and the checksum has 32 bytes.
    """
    files: list[tuple[bytes, Checksum]] = []
    add = cast("Callable[[tuple[Any, ...]], None]", files.append)
    start += base
    for end in ends:
        end += base  # noqa: PLW2901 - in the hottest loop
        size = end - start
        if data[end - 1] != size - 33 or data[end - 34]:
            raise IndexError
        add(_FILE_READERS[size](data, start))
        start = end
    return files


def _read_dirs(
    data: bytes, base: int, ends: Sequence[int], start: int = 0, limit: int | None = None
) -> list[tuple[bytes, Checksum, Checksum]]:
    """Decode elements of ``a(sayay)``: name, NUL, twice 32 bytes, the ends of the first two, last one first.

    Arguments are as for `_read_files`.
    """
    try:
        return _read_short_dirs(data, base, ends, start)
    except IndexError:
        elements = iter_elements(data, ends, "dirs", base, start, limit)
        members = (split_members(element, 2, "dirs") for element in elements)
        return [
            (_entry_name(name, "dirs"), _entry_id(tree, "dirs"), _entry_id(meta, "dirs"))
            for name, tree, meta in members
        ]


def _read_short_dirs(
    data: bytes, base: int, ends: Sequence[int], start: int
) -> list[tuple[bytes, Checksum, Checksum]]:
    """Decode ``a(sayay)`` as `_read_short_files` does ``a(say)``."""
    dirs: list[tuple[bytes, Checksum, Checksum]] = []
    add = cast("Callable[[tuple[Any, ...]], None]", dirs.append)
    start += base
    for end in ends:
        end += base  # noqa: PLW2901 - in the hottest loop
        size = end - start
        if data[end - 1] != size - 66 or data[end - 2] != size - 34 or data[end - 67]:
            raise IndexError
        add(_DIR_READERS[size](data, start))
        start = end
    return dirs


def _entry_name(text: bytes, field: str) -> bytes:
    if not text.endswith(b"\0"):
        fail(field, "a name with a final NUL", shown(text))
    return text[:-1]


def _entry_id(data: bytes, field: str) -> Checksum:
    if len(data) != CHECKSUM_SIZE:
        fail(field, f"a checksum of {CHECKSUM_SIZE} bytes", len(data))
    return Checksum(data)


def format_dirtree(
    files: Iterable[tuple[bytes, Checksum]], dirs: Iterable[tuple[bytes, Checksum, Checksum]]
) -> bytes:
    """Serialise a dirtree, each list sorted by the bytes of the names.

    Raises:
        OstreeObjectError: A name or identifier that `parse_dirtree` would refuse.
    """
    file_list, dir_list = sorted(files), sorted(dirs)
    names = [entry[0] for entry in file_list] + [entry[0] for entry in dir_list]
    if names:
        check_names(names)
    parts = ([_join_entry(*entry) for entry in file_list], [_join_entry(*entry) for entry in dir_list])
    data = join_members([join_elements(part) for part in parts])
    if len(data) > MAX_METADATA_SIZE:
        fail("dirtree", f"at most {MAX_METADATA_SIZE} bytes", len(data))
    return data


def _join_entry(name: bytes, *checksums: bytes) -> bytes:
    for checksum in checksums:
        _entry_id(checksum, "checksum")
    return join_members((name + b"\0", *checksums))
