"""Limit the output of a delta part, regardless of the sizes that it announces.

A program may copy the same payload again and again, and zeros compress by a factor of 7000, so a delta of a
kilobyte could fill the disk. The output of a part is limited by the number of fetched bytes, by the bytes
read from the old commit, by the sizes in the commit (``ostree.sizes``), and by the free space on the disk.
All of these are known before anything is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import ExitCode
from cfsctl.ostree.delta.format import MAX_PART_PLAIN_BYTES, PART_SLACK_BYTES, DeltaError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cfsctl.digest import Checksum
    from cfsctl.ostree.delta.superblock import Part, Superblock

PLAIN_EXPANSION: Final = 200
"""A part may be so many times as large when it is decompressed. Text shrinks to a tenth."""

ANNOUNCED_EXPANSION: Final = 8000
"""The same where the commit says that its objects are that large: more than zeros are compressed."""

PAYLOAD_USES: Final = 2
"""Times that a payload may be written; the real client writes it once."""

SOURCE_USES: Final = 32
"""Times that a file of the old commit may be written. Chunks that repeat in the new file are copied again."""

FREE_BYTES: Final = 64 << 20
MIN_FREE_BYTES: Final = 64 << 10
"""What all parts together may make beyond that, in equal shares, but each at least the latter."""


class NoRoomError(DeltaError):
    """A delta that would make more than there is room for."""

    exit_code = ExitCode.NO_SPACE


class PartBudget(NamedTuple):
    """Ceilings of one part.

    Attributes:
        announced_bytes: Content that its objects may have together, as announced.
        free_bytes: Content that needs no payload and no source to account for it.
        plain_bytes: Bytes of the part when it is decompressed.
    """

    announced_bytes: int
    free_bytes: int
    plain_bytes: int


def make_budget(
    superblock: Superblock, sizes: Mapping[Checksum, tuple[int, int]] | None, number: int, size_bytes: int
) -> PartBudget:
    """Return the ceilings of a part.

    Args:
        superblock: The delta.
        sizes: Stored and plain sizes of objects as the commit announces them, or None.
        number: Which part.
        size_bytes: Size of the part as it is stored.
    """
    part = superblock.parts[number]
    announced, expansion = part.content_bytes, PLAIN_EXPANSION
    known = None if sizes is None else _add_sizes(sizes, part)
    if known is not None:
        announced, expansion = min(announced, known), ANNOUNCED_EXPANSION
    share = max(MIN_FREE_BYTES, FREE_BYTES // len(superblock.parts))
    plain = min(MAX_PART_PLAIN_BYTES, 2 * announced + PART_SLACK_BYTES, expansion * size_bytes + share)
    return PartBudget(announced + PART_SLACK_BYTES, share, plain)


def _add_sizes(sizes: Mapping[Checksum, tuple[int, int]], part: Part) -> int | None:
    """Return the size of all files that a part makes, or None unless all are known."""
    total = 0
    for kind, checksum in part.objects:
        found = sizes.get(checksum)
        if found is not None:
            total += found[1]
        elif not kind.is_metadata:
            return None
    return total


def check_room(superblock: Superblock, numbers: Sequence[int], free: int) -> None:
    """Refuse a delta whose needed parts announce more content than there is room for.

    Raises:
        NoRoomError: They do.
    """
    needed = sum(superblock.parts[number].content_bytes for number in numbers)
    if needed > free:
        raise NoRoomError(
            f"{superblock.description}: its parts announce {needed} bytes of content, {free} are free",
            field="usize",
        )
