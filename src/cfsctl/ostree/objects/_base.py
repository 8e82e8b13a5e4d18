"""Kinds, limits and the error of OSTree objects, and the framing that their parsers share."""

from __future__ import annotations

from enum import Enum
from itertools import pairwise
from typing import TYPE_CHECKING, Final, NoReturn

from cfsctl import limits
from cfsctl.errors import FormatError
from cfsctl.gvariant.framing import format_offsets, is_minimal, read_offsets

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cfsctl.digest import Checksum

CHECKSUM_SIZE: Final = 32
"""Bytes of a SHA-256."""

MAX_METADATA_SIZE: Final = 32 * 1024 * 1024
"""Bytes of a commit, dirtree or dirmeta. libostree reads four times as much; a parsed object takes several
times its size, and what is refused for what it says must not have filled the memory. A directory may have
400,000 entries, and a commit the sizes of 700,000 objects."""

MAX_DETACHED_SIZE: Final = 16 * 1024 * 1024
"""Bytes of detached metadata: four times all signatures that are looked at."""

MAX_UNSORTED_SIZE: Final = 4 * 1024 * 1024
"""Bytes of a dirtree whose entries may be in any order. All programs sort them, and a name that occurs twice
is seen in sorted ones without having all of them in memory."""

MAX_FILE_HEADER_SIZE: Final = 16 * 1024 * 1024
"""Bytes of a file header's variant. The length word could ask for 4 GiB."""

MAX_NAME_SIZE: Final = limits.MAX_NAME_BYTES
MAX_TARGET_SIZE: Final = limits.MAX_TARGET_BYTES
MAX_XATTR_NAME_SIZE: Final = limits.MAX_XATTR_NAME_BYTES
"""Without the NUL that ends a name."""

MAX_XATTR_VALUE_SIZE: Final = limits.MAX_XATTR_VALUE_BYTES


class OstreeObjectError(FormatError):
    """Bytes that are not a valid OSTree object; the message says field, expected and found."""

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
        """Name for messages; a file is called ``file`` with any suffix."""
        return "file" if self is ObjectKind.FILE else self.value


def loose_path(checksum: Checksum, kind: ObjectKind) -> str:
    """Return the path of an object below an archive repository: ``objects/xx/rest.suffix``."""
    text = checksum.hex()
    return f"objects/{text[:2]}/{text[2:]}.{kind.value}"


def fail(field: str, expected: str, found: object, *, offset: int | None = None) -> NoReturn:
    raise OstreeObjectError(f"{field}: expected {expected}, found {found}", field=field, offset=offset)


def check_range(field: str, value: int, bits: int) -> None:
    if not 0 <= value < 1 << bits:
        fail(field, f"a number of {bits} bits", value)


def offset_width(size: int) -> int:
    """Return the bytes of one framing offset in a container of this size."""
    if size <= 0xFF:
        return 1
    if size <= 0xFFFF:
        return 2
    return 4 if size <= 0xFFFFFFFF else 8


def element_ends(data: bytes, field: str, start: int = 0, stop: int | None = None) -> Sequence[int]:
    """Return where each element of a non-empty array ends; the last value is the table's start.

    Only the table itself is checked: its place, its size, its width. Values but the last may be anything.

    Args:
        data: The array, or something that it is a part of.
        field: What messages call it.
        start: Where it begins.
        stop: Where it ends; None is the end of `data`. What is returned counts from `start`.
    """
    stop = len(data) if stop is None else stop
    size = stop - start
    width = offset_width(size)
    table = int.from_bytes(data[stop - width : stop], "little")
    count, remainder = divmod(size - table, width)
    if table > size - width or remainder:
        fail(field, f"a table of {width}-byte offsets at the end of {size} bytes", f"its start at {table}")
    if width > 1 and not is_minimal(table, count, size):
        fail(field, "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    return read_offsets(data, start + table, count, width)


def iter_elements(
    data: bytes, ends: Sequence[int], field: str, base: int = 0, start: int = 0, limit: int | None = None
) -> Iterable[bytes]:
    """Yield the elements of an array whose elements need no alignment, checking every offset.

    Args:
        data: The array, or something that it is a part of.
        ends: Where the elements end, counted from `base`.
        field: What messages call the array.
        base: Where it begins in `data`.
        start: Where the first of these elements starts, counted from `base`.
        limit: Where the last element of the array ends, if `ends` are not all of its elements.
    """
    limit = ends[-1] if limit is None else limit
    for begin, end in pairwise((start, *ends)):
        if not begin <= end <= limit:
            fail(field, f"an end offset from {begin} to {limit}", end, offset=begin)
        yield data[base + begin : base + end]


def split_members(data: bytes, count: int, field: str) -> list[bytes]:
    """Split a tuple of unaligned members of variable size, of which `count` have an end offset."""
    size = len(data)
    width = offset_width(size)
    table = size - count * width
    if table < 0:
        fail(field, f"room for {count} offsets of {width} bytes", f"{size} bytes")
    if not is_minimal(table, count, size):
        fail(field, "offsets of the smallest width", f"{width} bytes for {table} bytes of data")
    members = []
    start = 0
    for place in range(size - width, table - 1, -width):
        end = int.from_bytes(data[place : place + width], "little")
        if not start <= end <= table:
            fail(field, f"an end offset from {start} to {table}", end)
        members.append(data[start:end])
        start = end
    members.append(data[start:table])
    return members


def join_members(members: Sequence[bytes]) -> bytes:
    """Serialise a tuple of unaligned members of variable size, the inverse of `split_members`."""
    ends = _running_ends(members)[:-1]
    ends.reverse()
    return b"".join(members) + format_offsets(sum(map(len, members)), ends)


def join_elements(elements: Sequence[bytes]) -> bytes:
    """Serialise an array of unaligned elements of variable size."""
    return b"".join(elements) + format_offsets(sum(map(len, elements)), _running_ends(elements))


def _running_ends(parts: Iterable[bytes]) -> list[int]:
    ends = []
    end = 0
    for part in parts:
        end += len(part)
        ends.append(end)
    return ends
