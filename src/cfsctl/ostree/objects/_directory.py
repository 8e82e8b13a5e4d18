"""Dirmeta and dirtree."""

from __future__ import annotations

import stat
import struct
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, cast

from cfsctl.digest import Checksum
from cfsctl.gvariant.framing import is_minimal
from cfsctl.ostree.objects._base import (
    CHECKSUM_SIZE,
    MAX_DIRTREE_SIZE,
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
    from collections.abc import Callable, Iterable, Sequence


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


def parse_dirtree(data: bytes | memoryview) -> Dirtree:
    """Decode a dirtree.

    Entries may come in any order, as libostree allows; everything else is as a writer makes it.

    Raises:
        OstreeObjectError: Not in normal form, an identifier that has not 32 bytes, a name that is no
            path component, or a name that occurs twice, be it as file or as directory.
    """
    size = len(data)
    if size > MAX_DIRTREE_SIZE:
        fail("dirtree", f"at most {MAX_DIRTREE_SIZE} bytes", size)
    data = bytes(data)
    width = offset_width(size)
    table = size - width
    middle = int.from_bytes(data[table:], "little") if table > 0 else 0
    if table < 0 or middle > table or (not table and data[0]):
        fail("dirtree", f"the end of the files within {max(table, 0)} bytes", f"{middle} of {size} bytes")
    if width > 1 and not is_minimal(table, 1, size):
        fail("dirtree", "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    files = _read_files(data[:middle]) if middle else []
    dirs = _read_dirs(data[middle:table]) if middle < table else []
    names = [entry[0] for entry in files]
    if dirs:
        names += [entry[0] for entry in dirs]
    if names:
        check_names(names)
    return Dirtree(files, dirs)


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


def _read_files(array: bytes) -> list[tuple[bytes, Checksum]]:
    """Decode ``a(say)``: name, NUL, 32 bytes, and the end of the name in one byte or, if long, two."""
    ends = element_ends(array, "files")
    try:
        return _read_short_files(array, ends)
    except IndexError:
        members = (split_members(element, 1, "files") for element in iter_elements(array, ends, "files"))
        return [(_entry_name(name, "files"), _entry_id(checksum, "files")) for name, checksum in members]


def _read_short_files(array: bytes, ends: Sequence[int]) -> list[tuple[bytes, Checksum]]:
    """Decode ``a(say)`` while every element is sound and has one-byte offsets; else raise IndexError.

    The last byte of an element, the end of its name, ties its size to the offset table: with it right,
    ends ascend and the checksum has 32 bytes.
    """
    files: list[tuple[bytes, Checksum]] = []
    add = cast("Callable[[tuple[Any, ...]], None]", files.append)
    start = 0
    for end in ends:
        size = end - start
        if array[end - 1] != size - 33 or array[end - 34]:
            raise IndexError
        add(_FILE_READERS[size](array, start))
        start = end
    return files


def _read_dirs(array: bytes) -> list[tuple[bytes, Checksum, Checksum]]:
    """Decode ``a(sayay)``: name, NUL, twice 32 bytes, and the ends of the first two, last one first."""
    ends = element_ends(array, "dirs")
    try:
        return _read_short_dirs(array, ends)
    except IndexError:
        members = (split_members(element, 2, "dirs") for element in iter_elements(array, ends, "dirs"))
        return [
            (_entry_name(name, "dirs"), _entry_id(tree, "dirs"), _entry_id(meta, "dirs"))
            for name, tree, meta in members
        ]


def _read_short_dirs(array: bytes, ends: Sequence[int]) -> list[tuple[bytes, Checksum, Checksum]]:
    """Decode ``a(sayay)`` as `_read_short_files` does ``a(say)``."""
    dirs: list[tuple[bytes, Checksum, Checksum]] = []
    add = cast("Callable[[tuple[Any, ...]], None]", dirs.append)
    start = 0
    for end in ends:
        size = end - start
        if array[end - 1] != size - 66 or array[end - 2] != size - 34 or array[end - 67]:
            raise IndexError
        add(_DIR_READERS[size](array, start))
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
    if len(data) > MAX_DIRTREE_SIZE:
        fail("dirtree", f"at most {MAX_DIRTREE_SIZE} bytes", len(data))
    return data


def _join_entry(name: bytes, *checksums: bytes) -> bytes:
    for checksum in checksums:
        _entry_id(checksum, "checksum")
    return join_members((name + b"\0", *checksums))
