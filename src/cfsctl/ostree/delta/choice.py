"""Choose a delta, if any: compare the cost of each delta with that of fetching the objects one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.digest import Checksum
from cfsctl.ostree.objects import CHECKSUM_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.ostree.delta.superblock import Superblock
    from cfsctl.ostree.objects import Commit

SIZES_KEY: Final = "ostree.sizes"

REQUEST_COST_BYTES: Final = 500
"""What a request costs next to the body: headers both ways, and the time of both sides, as bytes."""


class Estimate(NamedTuple):
    """What would have to be fetched.

    Attributes:
        size_bytes: Bytes of all bodies, as announced.
        requests: Number of requests.
        plain_bytes: Bytes of the objects that come of it, as announced.
    """

    size_bytes: int
    requests: int
    plain_bytes: int = 0

    @property
    def cost(self) -> int:
        """One number to compare by."""
        return self.size_bytes + REQUEST_COST_BYTES * self.requests


def needed_parts(superblock: Superblock, is_here: Callable[[Checksum], bool]) -> list[int]:
    """Return the parts that make something that is not here yet."""
    return [
        number
        for number, part in enumerate(superblock.parts)
        if not all(is_here(checksum) for _, checksum in part.objects)
    ]


def estimate_delta(superblock: Superblock, parts: list[int], is_here: Callable[[Checksum], bool]) -> Estimate:
    """Return what the needed parts and fallback objects of a delta cost; its superblock was fetched."""
    separate = [number for number in parts if number not in superblock.inline]
    missing = [fallback for fallback in superblock.fallbacks if not is_here(fallback.checksum)]
    size = sum(superblock.parts[number].size_bytes for number in separate)
    size += sum(fallback.size_bytes for fallback in missing)
    plain = sum(superblock.parts[number].content_bytes for number in parts)
    plain += sum(fallback.content_bytes for fallback in missing)
    return Estimate(size, len(separate) + len(missing), plain)


def estimate_objects(commit: Commit, is_here: Callable[[Checksum], bool]) -> Estimate | None:
    """Return what the objects of a commit cost one by one, if the commit says how large they are."""
    sizes = read_sizes(commit)
    if sizes is None:
        return None
    size = requests = plain = 0
    for checksum, (stored_size, plain_size) in sizes.items():
        if not is_here(checksum):
            size += stored_size
            plain += plain_size
            requests += 1
    return Estimate(size, requests, plain)


def read_sizes(commit: Commit) -> dict[Checksum, tuple[int, int]] | None:
    """Return what a commit says of the stored and the plain size of its objects; None if that is not valid.

    Format: ``ostree.sizes`` in the commit's metadata, ``aay``: checksum, stored size and plain size as
    numbers of 7 bits a byte, and the object's type in newer ones.
    """
    found = [value.value for key, value in commit.metadata if key == SIZES_KEY and value.type == "aay"]
    entries = found[0] if found else None
    if not isinstance(entries, list):
        return None
    known: dict[Checksum, tuple[int, int]] = {}
    for entry in entries:
        if not isinstance(entry, bytes) or len(entry) < CHECKSUM_SIZE + 2:
            return None
        sizes = _read_varints(entry, CHECKSUM_SIZE)
        if len(sizes) < 2:
            return None
        known[Checksum(entry[:CHECKSUM_SIZE])] = sizes[0], sizes[1]
    return known


def _read_varints(data: bytes, place: int) -> list[int]:
    """Return the numbers that are complete in the 20 bytes from a place on, at most two."""
    values = []
    value = shift = 0
    for byte in data[place : place + 20]:
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            values.append(value)
            value = shift = 0
    return values[:2]
