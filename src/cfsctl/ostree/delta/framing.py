"""Find the children of a GVariant container by its offset table, without reading the children.

This is for the few containers that may be larger than memory; everything else goes through `cfsctl.gvariant`.
The
framing of the container must be in normal form: ascending offsets of the smallest width, children at their
alignment, and padding of zeros.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.gvariant.framing import is_minimal, offset_width, read_offsets
from cfsctl.ostree.delta.format import MAX_SUPERBLOCK_HELD_BYTES, fail

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.ostree.delta.views import ByteView


def read_member_ends(view: ByteView, count: int, field: str) -> tuple[list[int], int]:
    """Return the ends that a tuple stores for `count` of its members, and where that table begins."""
    width = offset_width(view.size)
    table = view.size - count * width
    if width == 0 or table < 0 or not is_minimal(table, count, view.size):
        fail(field, f"{count} offsets at the end", f"{view.size} bytes")
    ends = list(read_offsets(view.read(table, count * width), 0, count, width))
    ends.reverse()
    for before, end in zip([0, *ends], ends, strict=False):
        if not before <= end <= table:
            fail(field, f"an end offset from {before} to {table}", end)
    return ends, table


def align(view: ByteView, end: int, limit: int, field: str, alignment: int = 8) -> int:
    """Return where a child begins that follows one that ends at `end`; what is between is zero."""
    start = end + -end % alignment
    if start > limit:
        fail(field, f"a child within {limit} bytes", f"its start at {start}")
    if start > end and any(view.read(end, start - end)):
        fail(field, "padding of zeros", "something else", offset=end)
    return start


def iter_elements(view: ByteView, field: str) -> Iterator[ByteView]:
    """Yield the elements of an array whose elements have variable size and an alignment of 8."""
    if not view.size:
        return
    width = offset_width(view.size)
    table = int.from_bytes(view.read(view.size - width, width), "little")
    count, rest = divmod(view.size - table, width)
    if table > view.size - width or rest or not is_minimal(table, count, view.size):
        fail(field, f"a table of {width}-byte offsets at the end", f"its start at {table}")
    if count * width > MAX_SUPERBLOCK_HELD_BYTES:
        fail(field, f"offsets of at most {MAX_SUPERBLOCK_HELD_BYTES} bytes", count * width)
    before = 0
    for end in read_offsets(view.read(table, count * width), 0, count, width):
        start = align(view, before, table, field)
        if not start <= end <= table:
            fail(field, f"an end offset from {start} to {table}", end)
        yield view.window(start, end)
        before = end
