"""OSTree objects: what a repository holds, as bytes in and values out.

Every parser here is strict, whatever the source of the bytes: normal form of the serialisation,
sizes of identifiers, names, modes and extended attributes are checked before a value is returned,
and `OstreeObjectError` is the only error. The parsers for what a pull meets by the ten thousand
(dirtree, dirmeta, header of a ``.filez``) are written by hand around the common case; whatever
that case does not cover goes through a slower reader, which either accepts it or says what is wrong.

Nothing here computes a checksum: that is for the caller, who knows the name of the object.

Formats: OSTree object types (``a(say)`` and its relatives are GVariant type strings; integers inside
objects are big-endian, framing offsets little-endian).

    dirmeta   (uuua(ayay))         uid gid mode xattrs
    dirtree   (a(say)a(sayay))     files (name, checksum), directories (name, dirtree, dirmeta)
    commit    (a{sv}aya(say)sstayay)
    .filez    u32 length, 4 zero bytes, (tuuuusa(ayay)) size uid gid mode rdev target xattrs, raw deflate
    file      what a file's checksum covers: the same without the size, then the plain content
"""

from __future__ import annotations

import stat
import struct
from enum import Enum
from functools import lru_cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final, NamedTuple, NoReturn, TypeAlias, cast

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

CHECKSUM_SIZE: Final = 32
"""Bytes of a SHA-256."""

MAX_METADATA_SIZE: Final = 128 * 1024 * 1024
"""Bytes of a commit, dirtree or dirmeta; the limit of libostree since 2023."""

MAX_FILE_HEADER_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a file header's variant. The length word could ask for 4 GiB."""

MAX_NAME_SIZE: Final = 255
"""Bytes of one path component, as in the kernel."""

MAX_TARGET_SIZE: Final = 4095
"""Bytes of a symbolic link's target: PATH_MAX without the NUL."""

MAX_XATTR_NAME_SIZE: Final = 255
"""Bytes of an extended attribute's name without its NUL, as in the kernel."""

MAX_XATTR_VALUE_SIZE: Final = 65536
"""Bytes of an extended attribute's value, as in the kernel."""

MAX_COMMIT_VALUES: Final = 1_000_000
"""Values that a commit may hold, nested ones included; 20,000 metadata keys make about 80,000."""

SIZED_PREFIX: Final = 8
"""Bytes before the variant of a file header: its length and padding."""

Xattrs: TypeAlias = "tuple[tuple[bytes, bytes], ...]"
"""Extended attributes in stored order: (name with its final NUL, value)."""


class OstreeObjectError(FormatError):
    """Bytes that are no valid OSTree object; the message says field, expected and found."""

    def about(self, name: str) -> OstreeObjectError:
        """Return the same error with the object's name in front of the message."""
        return OstreeObjectError(f"{name}: {self}", offset=self.offset, field=self.field, hint=self.hint)


class ObjectKind(Enum):
    """Kinds of object that a pull reads; the value is the suffix in an archive repository."""

    FILE = "filez"
    DIRTREE = "dirtree"
    DIRMETA = "dirmeta"
    COMMIT = "commit"

    @property
    def suffix(self) -> str:
        """Suffix of the file name in an archive repository, without the dot."""
        return self.value

    @property
    def is_metadata(self) -> bool:
        """Whether the object is stored as it is in every kind of repository."""
        return self is not ObjectKind.FILE

    @property
    def label(self) -> str:
        """Name for messages; a file is called ``file`` whatever its suffix."""
        return "file" if self is ObjectKind.FILE else self.value


def loose_path(checksum: Checksum, kind: ObjectKind) -> str:
    """Return the path of an object below an archive repository: ``objects/xx/rest.suffix``."""
    text = checksum.hex()
    return f"objects/{text[:2]}/{text[2:]}.{kind.value}"


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


class FileHeader(NamedTuple):
    """Header of a regular file or symbolic link as an archive repository stores it.

    Attributes:
        size_bytes: Size of the plain content as the header claims it; no checksum covers this.
        length_bytes: Size of the header in the ``.filez``; deflate data follows for a regular file,
            nothing may follow for a symbolic link.
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: Extended attributes.
        regular_header: What the file's checksum covers before the plain content.
    """

    size_bytes: int
    length_bytes: int
    uid: int
    gid: int
    mode: int
    target: bytes
    xattrs: Xattrs
    regular_header: bytes

    @property
    def is_symlink(self) -> bool:
        """Whether this is a symbolic link; else it is a regular file."""
        return self.mode & 0o170000 == stat.S_IFLNK


class Commit(NamedTuple):
    """A commit.

    Attributes:
        metadata: (key, value) in stored order; values keep their type and the writer's byte order.
        parent: Checksum of the parent commit, or None.
        subject: One line.
        body: More lines, or empty.
        timestamp_s: Seconds since 1970, 64 bits without sign.
        root_dirtree: Checksum of the root's dirtree.
        root_dirmeta: Checksum of the root's dirmeta.
        related: (name, checksum) of related objects; nothing writes any.
    """

    metadata: tuple[tuple[str, gvariant.Variant], ...]
    parent: Checksum | None
    subject: str
    body: str
    timestamp_s: int
    root_dirtree: Checksum
    root_dirmeta: Checksum
    related: tuple[tuple[str, bytes], ...] = ()


def _fail(field: str, expected: str, found: object, *, offset: int | None = None) -> NoReturn:
    raise OstreeObjectError(f"{field}: expected {expected}, found {found}", field=field, offset=offset)


def _check_range(field: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        _fail(field, f"a number of {bits} bits", value)


# --- framing ------------------------------------------------------------------------------------

_OFFSET_FORMATS: Final = {2: "H", 4: "I", 8: "Q"}


def _offset_width(size: int) -> int:
    """Return the bytes of one framing offset in a container of this size."""
    if size <= 0xFF:
        return 1
    if size <= 0xFFFF:
        return 2
    return 4 if size <= 0xFFFFFFFF else 8


def _element_ends(array: bytes, field: str) -> Sequence[int]:
    """Return where each element of a non-empty array ends; the last value is the table's start.

    Only the table itself is checked: its place, its size, its width. Values but the last may be anything.
    """
    size = len(array)
    width = _offset_width(size)
    table = int.from_bytes(array[-width:], "little")
    count, remainder = divmod(size - table, width)
    if table > size - width or remainder:
        _fail(field, f"a table of {width}-byte offsets at the end of {size} bytes", f"its start at {table}")
    if width == 1:
        return array[table:]
    if _offset_width(table + count * (width >> 1)) < width:
        _fail(field, "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    return struct.unpack(f"<{count}{_OFFSET_FORMATS[width]}", array[table:])


def _iter_elements(array: bytes, ends: Sequence[int], field: str) -> Iterable[bytes]:
    """Yield the elements of an array whose elements need no alignment, checking every offset."""
    limit = ends[-1]
    for start, end in pairwise((0, *ends)):
        if not start <= end <= limit:
            _fail(field, f"an end offset from {start} to {limit}", end, offset=start)
        yield array[start:end]


def _split_members(data: bytes, count: int, field: str) -> list[bytes]:
    """Split a tuple of unaligned members of variable size, of which `count` have an end offset."""
    size = len(data)
    width = _offset_width(size)
    table = size - count * width
    if table < 0:
        _fail(field, f"room for {count} offsets of {width} bytes", f"{size} bytes")
    if width > 1 and _offset_width(table + count * (width >> 1)) < width:
        _fail(field, "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    members = []
    start = 0
    for place in range(size - width, table - 1, -width):
        end = int.from_bytes(data[place : place + width], "little")
        if not start <= end <= table:
            _fail(field, f"an end offset from {start} to {table}", end)
        members.append(data[start:end])
        start = end
    members.append(data[start:table])
    return members


def _join_members(members: Sequence[bytes]) -> bytes:
    """Serialise a tuple of unaligned members of variable size, the inverse of `_split_members`."""
    ends = _running_ends(members)[:-1]
    ends.reverse()
    return b"".join(members) + _format_offsets(sum(map(len, members)), ends)


def _join_elements(elements: Sequence[bytes]) -> bytes:
    """Serialise an array of unaligned elements of variable size."""
    return b"".join(elements) + _format_offsets(sum(map(len, elements)), _running_ends(elements))


def _running_ends(parts: Iterable[bytes]) -> list[int]:
    ends = []
    end = 0
    for part in parts:
        end += len(part)
        ends.append(end)
    return ends


def _format_offsets(body_size: int, offsets: Sequence[int]) -> bytes:
    """Return the offsets in the smallest width that holds the container's whole size."""
    width = 1
    while body_size + width * len(offsets) >= 1 << (8 * width):
        width *= 2
    return b"".join([offset.to_bytes(width, "little") for offset in offsets])


# --- names and extended attributes --------------------------------------------------------------

_RESERVED_NAMES: Final = frozenset((b"", b".", b".."))


def check_name(name: bytes, field: str = "name") -> None:
    """Check a path component as a dirtree may hold it.

    Raises:
        OstreeObjectError: Empty, ``.``, ``..``, over 255 bytes, not UTF-8, or with a slash or NUL.
    """
    if name in _RESERVED_NAMES or b"/" in name or b"\0" in name:
        _fail(field, "one path component", _shown(name))
    if len(name) > MAX_NAME_SIZE:
        _fail(field, f"at most {MAX_NAME_SIZE} bytes", len(name))
    try:
        name.decode()
    except UnicodeDecodeError:
        _fail(field, "UTF-8", _shown(name))


def _shown(name: bytes) -> str:
    """Return a name for a message, cut to a length that people read."""
    return repr(name) if len(name) <= 80 else f"{name[:77]!r}... ({len(name)} bytes)"


def _check_names(names: list[bytes]) -> None:
    """Check all names of a directory at once; look closer only when something is wrong."""
    joined = b"/".join(names)
    unique = frozenset(names)
    if (
        len(unique) == len(names)
        and joined.count(b"/") == len(names) - 1
        and b"\0" not in joined
        and _RESERVED_NAMES.isdisjoint(unique)
        and (joined.isascii() or _is_utf8(joined))
        and (len(joined) <= MAX_NAME_SIZE or max(map(len, names)) <= MAX_NAME_SIZE)
    ):
        return
    for name in names:
        check_name(name)
    seen = set()
    for name in names:
        if name in seen:
            _fail("name", "each name once", f"{_shown(name)} twice")
        seen.add(name)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _read_xattrs(data: bytes) -> Xattrs:
    """Decode and check ``a(ayay)``; the order is kept as found."""
    if not data:
        return ()
    ends = _element_ends(data, "xattrs")
    pairs = tuple(_read_xattr(element) for element in _iter_elements(data, ends, "xattrs"))
    if len(pairs) > 1 and len({name for name, _ in pairs}) != len(pairs):
        _fail("xattrs", "each name once", "a name twice")
    return pairs


def _read_xattr(element: bytes) -> tuple[bytes, bytes]:
    name, value = _split_members(element, 1, "xattrs")
    _check_xattr(name, value)
    return name, value


def _check_xattr(name: bytes, value: bytes) -> None:
    if len(name) < 2 or name.find(b"\0") != len(name) - 1:
        _fail("xattr name", "a name that ends in its only NUL", _shown(name))
    if len(name) - 1 > MAX_XATTR_NAME_SIZE:
        _fail("xattr name", f"at most {MAX_XATTR_NAME_SIZE} bytes", len(name) - 1)
    if len(value) > MAX_XATTR_VALUE_SIZE:
        _fail(f"xattr {_shown(name[:-1])}", f"at most {MAX_XATTR_VALUE_SIZE} bytes", len(value))


_read_common_xattrs = lru_cache(maxsize=256)(_read_xattrs)
_COMMON_SIZE: Final = 1024
"""Bytes up to which decoded attributes and headers are remembered: labels repeat in nearly every file."""


def parse_xattrs(data: bytes) -> Xattrs:
    """Decode a list of extended attributes, ``a(ayay)``.

    Args:
        data: The serialised array; zero bytes are the empty list.

    Raises:
        OstreeObjectError: Not in normal form, a name without its final NUL or with another one, a
            name twice, or a name or value above the kernel's limits.
    """
    return _read_common_xattrs(data) if len(data) <= _COMMON_SIZE else _read_xattrs(data)


def format_xattrs(xattrs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Serialise extended attributes as ``a(ayay)`` in the order given.

    Args:
        xattrs: (name with its final NUL, value); sort them by name for a new object.

    Raises:
        OstreeObjectError: A name or value that `parse_xattrs` would refuse.
    """
    pairs = list(xattrs)
    for name, value in pairs:
        _check_xattr(name, value)
    if len({name for name, _ in pairs}) != len(pairs):
        _fail("xattrs", "each name once", "a name twice")
    return _join_elements([_join_members(pair) for pair in pairs])


# --- dirmeta ------------------------------------------------------------------------------------

_DIRMETA: Final = struct.Struct(">III")


def parse_dirmeta(data: bytes) -> Dirmeta:
    """Decode a dirmeta.

    Raises:
        OstreeObjectError: Not in normal form, not the mode of a directory, bits outside type and
            07777, or broken extended attributes.
    """
    if len(data) < 12:
        _fail("dirmeta", "at least 12 bytes", len(data))
    uid, gid, mode = _DIRMETA.unpack_from(data)
    _check_directory_mode(mode)
    return Dirmeta(uid, gid, mode, parse_xattrs(data[12:]) if len(data) > 12 else ())


def format_dirmeta(meta: Dirmeta) -> bytes:
    """Serialise a dirmeta, extended attributes in the order given.

    Raises:
        OstreeObjectError: Something that `parse_dirmeta` would refuse.
    """
    _check_directory_mode(meta.mode)
    _check_range("uid", meta.uid, 32)
    _check_range("gid", meta.gid, 32)
    return _DIRMETA.pack(meta.uid, meta.gid, meta.mode) + format_xattrs(meta.xattrs)


def _check_directory_mode(mode: int) -> None:
    if mode & ~0o7777 != stat.S_IFDIR:
        _fail("mode", "the type of a directory and bits within 07777", f"{mode:#o}")


# --- dirtree ------------------------------------------------------------------------------------


def parse_dirtree(data: bytes) -> Dirtree:
    """Decode a dirtree.

    Entries may come in any order, as libostree allows; everything else is as a writer makes it.

    Raises:
        OstreeObjectError: Not in normal form, an identifier that has not 32 bytes, a name that is no
            path component, or a name that occurs twice, be it as file or as directory.
    """
    size = len(data)
    width = _offset_width(size)
    table = size - width
    middle = int.from_bytes(data[table:], "little") if table > 0 else 0
    if table < 0 or middle > table or (not table and data[0]):
        _fail("dirtree", f"the end of the files within {max(table, 0)} bytes", f"{middle} of {size} bytes")
    if width > 1 and _offset_width(table + (width >> 1)) < width:
        _fail("dirtree", "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    files = _read_files(data[:middle]) if middle else []
    dirs = _read_dirs(data[middle:table]) if middle < table else []
    names = [entry[0] for entry in files]
    if dirs:
        names += [entry[0] for entry in dirs]
    if names:
        _check_names(names)
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
    ends = _element_ends(array, "files")
    try:
        return _read_short_files(array, ends)
    except IndexError:
        members = (_split_members(element, 1, "files") for element in _iter_elements(array, ends, "files"))
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
    ends = _element_ends(array, "dirs")
    try:
        return _read_short_dirs(array, ends)
    except IndexError:
        members = (_split_members(element, 2, "dirs") for element in _iter_elements(array, ends, "dirs"))
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
        _fail(field, "a name with a final NUL", _shown(text))
    return text[:-1]


def _entry_id(data: bytes, field: str) -> Checksum:
    if len(data) != CHECKSUM_SIZE:
        _fail(field, f"a checksum of {CHECKSUM_SIZE} bytes", len(data))
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
        _check_names(names)
    parts = ([_join_entry(*entry) for entry in file_list], [_join_entry(*entry) for entry in dir_list])
    return _join_members([_join_elements(part) for part in parts])


def _join_entry(name: bytes, *checksums: bytes) -> bytes:
    for checksum in checksums:
        _entry_id(checksum, "checksum")
    return _join_members((name + b"\0", *checksums))


# --- file headers -------------------------------------------------------------------------------

_SIZED: Final = struct.Struct(">II")
_SIZED_ZLIB: Final = struct.Struct(">IIQ")
_OWNERSHIP: Final = struct.Struct(">IIII")


class _Attributes(NamedTuple):
    """The part of a file header that repeats from file to file."""

    uid: int
    gid: int
    mode: int
    target: bytes
    xattrs: Xattrs
    regular_header: bytes


def parse_header_length(data: bytes) -> int:
    """Return the size in bytes of the file header that begins with these 8 bytes, the 8 included.

    Raises:
        OstreeObjectError: Too short, a length below the smallest header or above 16 MiB, or padding
            that is not zero.
    """
    if len(data) < SIZED_PREFIX:
        _fail("header length", f"{SIZED_PREFIX} bytes", len(data))
    length, padding = _SIZED.unpack_from(data)
    if not 26 <= length <= MAX_FILE_HEADER_SIZE:
        _fail("header length", f"26 to {MAX_FILE_HEADER_SIZE} bytes", length)
    if padding:
        _fail("header padding", "4 zero bytes", f"{padding:#010x}", offset=4)
    return int(length) + SIZED_PREFIX


def parse_zlib_file_header(data: bytes) -> FileHeader:
    """Decode the header at the start of a ``.filez``, or as a commit stream stores it.

    A caller that has a symbolic link checks that nothing follows the header.

    Args:
        data: The header and whatever follows it.

    Raises:
        OstreeObjectError: Not in normal form, cut off, neither regular file nor symbolic link, a
            device number, mode bits outside type and 07777, a target where none may be or none where
            one must be, a symbolic link with a size, or broken extended attributes.
    """
    length = parse_header_length(data)
    if len(data) < length:
        _fail("file header", f"{length} bytes", len(data))
    tail = bytes(data[16:length])
    attributes = _read_common_tail(tail) if len(tail) <= _COMMON_SIZE else _read_tail(tail)
    size = int.from_bytes(data[8:16], "big")
    if size and attributes.target:
        _fail("size", "0 for a symbolic link", size, offset=8)
    # Half the time of calling FileHeader, once per file of a pull.
    return tuple.__new__(FileHeader, (size, length, *attributes))


def _read_tail(tail: bytes) -> _Attributes:
    """Decode what follows the size in a file header: ``uuuusa(ayay)`` and its offset."""
    variant_size = len(tail) + 8
    width = _offset_width(variant_size)
    table = len(tail) - width
    target_end = int.from_bytes(tail[table:], "little") - 8
    if not 17 <= target_end <= table or tail[target_end - 1]:
        _fail("target", "a string that ends within the header", f"its end at {target_end + 8}")
    if width > 1 and _offset_width(variant_size - (width >> 1)) < width:
        _fail("file header", "offsets of the smallest width", f"{width} bytes")
    uid, gid, mode, rdev = _OWNERSHIP.unpack_from(tail)
    target = tail[16 : target_end - 1]
    _check_file(mode, rdev, target)
    xattrs = parse_xattrs(tail[target_end:table])
    regular = _sized(_frame_header(tail[:table], target_end))
    return _Attributes(uid, gid, mode, target, xattrs, regular)


_read_common_tail = lru_cache(maxsize=1024)(_read_tail)


def _check_file(mode: int, rdev: int, target: bytes) -> None:
    kind = mode & ~0o7777
    if kind not in (stat.S_IFREG, stat.S_IFLNK):
        _fail("mode", "a regular file or symbolic link and bits within 07777", f"{mode:#o}")
    if rdev:
        _fail("rdev", "0", rdev)
    if kind == stat.S_IFREG:
        if target:
            _fail("target", "none for a regular file", _shown(target))
    else:
        check_target(target)


def check_target(target: bytes) -> None:
    """Check the target of a symbolic link.

    Raises:
        OstreeObjectError: Empty, over 4095 bytes, not UTF-8, or with a NUL.
    """
    if not 1 <= len(target) <= MAX_TARGET_SIZE:
        _fail("target", f"1 to {MAX_TARGET_SIZE} bytes", len(target))
    if b"\0" in target or not _is_utf8(target):
        _fail("target", "UTF-8 without NUL", _shown(target))


def _frame_header(body: bytes, target_end: int) -> bytes:
    """Append the end of the target, the only offset of a file header."""
    return body + _format_offsets(len(body), (target_end,))


def _sized(variant: bytes) -> bytes:
    return _SIZED.pack(len(variant), 0) + variant


def _format_ownership(uid: int, gid: int, mode: int, target: bytes) -> bytes:
    """Serialise ``uuuus``, the members that both forms of a file header share."""
    _check_file(mode, 0, target)
    _check_range("uid", uid, 32)
    _check_range("gid", gid, 32)
    return _OWNERSHIP.pack(uid, gid, mode, 0) + target + b"\0"


def format_regular_header(uid: int, gid: int, mode: int, target: bytes = b"", xattrs: Xattrs = ()) -> bytes:
    """Return what a file's checksum covers before its content.

    Args:
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: (name with its final NUL, value) in stored order.

    Raises:
        OstreeObjectError: Something that `parse_zlib_file_header` would refuse.
    """
    body = _format_ownership(uid, gid, mode, target)
    return _sized(_frame_header(body + format_xattrs(xattrs), len(body)))


def format_zlib_header(
    size_bytes: int, uid: int, gid: int, mode: int, target: bytes = b"", xattrs: Xattrs = ()
) -> bytes:
    """Return the header of a ``.filez``, which is also what a commit stream stores.

    Args:
        size_bytes: Size of the plain content, 0 for a symbolic link.
        uid: Owner.
        gid: Group.
        mode: Permission and type bits.
        target: Target of a symbolic link, else empty.
        xattrs: (name with its final NUL, value) in stored order.

    Raises:
        OstreeObjectError: Something that `parse_zlib_file_header` would refuse.
    """
    _check_range("size", size_bytes, 64)
    if size_bytes and target:
        _fail("size", "0 for a symbolic link", size_bytes)
    body = size_bytes.to_bytes(8, "big") + _format_ownership(uid, gid, mode, target)
    return _sized(_frame_header(body + format_xattrs(xattrs), len(body)))


# --- commit -------------------------------------------------------------------------------------

_COMMIT_TYPE: Final = "(a{sv}aya(say)sstayay)"
_CommitFields: TypeAlias = (
    "tuple[list[tuple[str, gvariant.Variant]], bytes, list[tuple[str, bytes]], str, str, int, bytes, bytes]"
)


def parse_commit(data: bytes) -> Commit:
    """Decode a commit.

    Raises:
        OstreeObjectError: Not in normal form, an empty metadata key, a parent that has neither 0 nor 32
            bytes, or a root without both identifiers.
    """
    try:
        value = gvariant.decode(_COMMIT_TYPE, data, max_values=MAX_COMMIT_VALUES)
    except gvariant.GVariantError as error:
        raise OstreeObjectError(f"commit: {error}", offset=error.offset, field=error.field) from error
    fields = cast("_CommitFields", value)
    metadata, parent, related, subject, body, timestamp, dirtree, dirmeta = fields
    _check_commit((key for key, _ in metadata), parent, dirtree, dirmeta)
    return Commit(
        tuple(metadata),
        Checksum(parent) if parent else None,
        subject,
        body,
        _swap64(timestamp),
        Checksum(dirtree),
        Checksum(dirmeta),
        tuple(related),
    )


def format_commit(commit: Commit) -> bytes:
    """Serialise a commit; metadata keep their order, so that a parsed commit gives its own bytes.

    Raises:
        OstreeObjectError: Something that `parse_commit` would refuse.
        ValueError: A value that does not fit its type.
        TypeError: A metadata value of another kind than its type.
    """
    _check_commit(
        (key for key, _ in commit.metadata), commit.parent or b"", commit.root_dirtree, commit.root_dirmeta
    )
    _check_range("timestamp", commit.timestamp_s, 64)
    fields = (
        commit.metadata,
        commit.parent or b"",
        commit.related,
        commit.subject,
        commit.body,
        _swap64(commit.timestamp_s),
        commit.root_dirtree,
        commit.root_dirmeta,
    )
    return gvariant.encode(_COMMIT_TYPE, fields)


def _check_commit(keys: Iterable[str], parent: bytes, dirtree: bytes, dirmeta: bytes) -> None:
    if not all(keys):
        _fail("metadata", "keys that are not empty", "an empty key")
    if len(parent) not in (0, CHECKSUM_SIZE):
        _fail("parent", f"0 or {CHECKSUM_SIZE} bytes", len(parent))
    for field, checksum in (("root dirtree", dirtree), ("root dirmeta", dirmeta)):
        if len(checksum) != CHECKSUM_SIZE:
            _fail(field, f"{CHECKSUM_SIZE} bytes", len(checksum))


def _swap64(value: int) -> int:
    """Return a 64-bit number with its bytes reversed: the codec reads little-endian, commits are big."""
    return int.from_bytes(value.to_bytes(8, "little"), "big")
