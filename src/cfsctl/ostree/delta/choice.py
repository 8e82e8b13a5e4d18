"""Choose a delta, if any: compare the cost of each delta with that of fetching the objects one by one.

A delta is fewer bytes, and one request for thousands of objects, but its parts have to be decompressed and
run. So it wins wherever the way to the server is long, and may lose next to the server. Two measures:

* Bytes (`Estimate.cost`), with `REQUEST_COST_BYTES` for a request: between deltas; and for a source whose
  round trip is not known, such as a directory, if the commit says how large its objects are.
* Seconds (`Estimate.count_seconds`) of a stated model, if the round trip is known. A server that answers
  within `NEAR_S` counts as one of the local network. The delta is taken unless it costs `WORTH_S` more, since
  it saves traffic.

What is compared are numbers that the superblock and the commit announce. They decide how objects are had, and
nothing else: each of them is verified in either way.
"""

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


NEAR_S: Final = 0.005
"""A server that takes no longer than this to answer is near."""

NEAR_BYTES_PER_S: Final = 100e6
FAR_BYTES_PER_S: Final = 10e6
"""What comes from a server that is near, and from another one."""

REQUEST_S: Final = 150e-6
"""What an object of its own costs on both sides: the request, and another transfer to keep account of."""

IN_FLIGHT: Final = 32
"""Requests that wait for the server at the same time."""

APPLIED_BYTES_PER_S: Final = 60e6
APPLIED_OBJECT_S: Final = 200e-6
"""Plain bytes of delta parts that a processor decompresses, and what each object of them costs."""

PART_PROCESSES: Final = 2
"""Processes that do so at the same time, if there are as many parts."""

WORTH_S: Final = 0.1
"""Time that a delta may cost more."""

PLAIN_SHARE: Final = 3
"""Objects of unknown size are taken to be one part in so many of their plain size when they are sent."""


class Estimate(NamedTuple):
    """What would have to be fetched.

    Attributes:
        size_bytes: Bytes of all bodies, as announced.
        requests: Number of requests.
        plain_bytes: Bytes of the objects that come of it, as announced.
        parts: Delta parts that have to be applied; 0 of objects that are fetched.
        made: Objects that they make.
    """

    size_bytes: int
    requests: int
    plain_bytes: int = 0
    parts: int = 0
    made: int = 0

    @property
    def cost(self) -> int:
        """One number to compare by."""
        return self.size_bytes + REQUEST_COST_BYTES * self.requests

    def count_seconds(self, round_trip_s: float) -> float:
        """Return the time that this takes from a server that answers after so many seconds."""
        rate = NEAR_BYTES_PER_S if round_trip_s <= NEAR_S else FAR_BYTES_PER_S
        seconds = self.size_bytes / rate + self.requests * (REQUEST_S + round_trip_s / IN_FLIGHT)
        if self.parts:
            work_s = self.plain_bytes / APPLIED_BYTES_PER_S + self.made * APPLIED_OBJECT_S
            seconds += work_s / min(self.parts, PART_PROCESSES)
        return seconds

    def describe(self) -> str:
        """Return it in words."""
        what = f"{self.parts} delta parts, " if self.parts else ""
        return f"{what}{self.requests} requests, {self.size_bytes} bytes"


class Choice(NamedTuple):
    """How the objects of a commit are had.

    Attributes:
        takes_delta: Whether by the delta.
        reason: Why, in words.
    """

    takes_delta: bool
    reason: str


def choose_way(delta: Estimate, objects: Estimate, round_trip_s: float | None) -> Choice:
    """Return whether a delta is to be taken, or the objects one by one.

    Args:
        delta: What the delta costs.
        objects: What the objects cost.
        round_trip_s: How long the source takes to answer, or None if that is not known.
    """
    if round_trip_s is None:
        is_cheaper = delta.cost <= objects.cost
        return Choice(is_cheaper, f"{delta.describe()}; without it {objects.describe()}")
    by_delta, by_objects = delta.count_seconds(round_trip_s), objects.count_seconds(round_trip_s)
    costs = f"{delta.describe()}, about {by_delta:.2f} s", f"{objects.describe()}, about {by_objects:.2f} s"
    return Choice(by_delta <= by_objects + WORTH_S, "; without it ".join(costs))


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
    made = sum(len(superblock.parts[number].objects) for number in parts)
    return Estimate(size, len(separate) + len(missing), plain, len(parts), made)


def estimate_objects_of(
    superblock: Superblock, parts: list[int], is_here: Callable[[Checksum], bool]
) -> Estimate:
    """Return what the objects that a delta makes cost one by one, where the commit does not say.

    They come to no less than the parts that make them, which have what is the same only once.
    """
    missing = [fallback for fallback in superblock.fallbacks if not is_here(fallback.checksum)]
    size, requests, plain = sum(fallback.size_bytes for fallback in missing), len(missing), 0
    for number in parts:
        part = superblock.parts[number]
        wanted = sum(not is_here(checksum) for _, checksum in part.objects)
        content = part.content_bytes * wanted // len(part.objects)
        size += max(content // PLAIN_SHARE, part.size_bytes * wanted // len(part.objects))
        requests += wanted
        plain += content
    return Estimate(size, requests, plain)


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
