"""Whether a delta is taken depends on what is announced, and on how far the server is."""

from __future__ import annotations

import pytest

from cfsctl.digest import Checksum
from cfsctl.ostree.delta.choice import NEAR_S, Estimate, choose_way, estimate_objects_of
from cfsctl.ostree.delta.superblock import Fallback, Part, Superblock
from cfsctl.ostree.objects import Commit, ObjectKind

DAILY = Estimate(2_500_000, 1, 8_000_000, 1, 2_100)
"""A delta for 3 % of 60,000 files."""

DAILY_OBJECTS = Estimate(2_700_000, 2_100, 8_000_000)


@pytest.mark.parametrize(
    ("delta", "objects", "round_trip_s", "takes_delta"),
    [
        (DAILY, DAILY_OBJECTS, 0.0002, False),  # next to the server, objects are here sooner
        (DAILY, DAILY_OBJECTS, 0.02, True),
        (DAILY, DAILY_OBJECTS, 0.3, True),
        (DAILY, DAILY_OBJECTS, None, True),
        # A large part of which little is wanted.
        (Estimate(30_000_000, 1, 60_000_000, 1, 900), Estimate(300_000, 40), 0.02, False),
        (Estimate(30_000_000, 1, 60_000_000, 1, 900), Estimate(300_000, 40), None, False),
        # So little that it makes no difference: less traffic is better.
        (Estimate(1000, 1, 500_000, 1, 10), Estimate(2000, 10), 0.0001, True),
        # Several parts are applied at the same time.
        (DAILY._replace(parts=2), DAILY_OBJECTS, 0.0002, True),
    ],
)
def test_choice(delta: Estimate, objects: Estimate, round_trip_s: float | None, *, takes_delta: bool) -> None:
    choice = choose_way(delta, objects, round_trip_s)
    assert choice.takes_delta is takes_delta
    assert f"{delta.size_bytes} bytes" in choice.reason
    assert f"{objects.requests} requests" in choice.reason


def test_longer_ways_never_speak_for_more_requests() -> None:
    gains = [
        DAILY_OBJECTS.count_seconds(round_trip) - DAILY.count_seconds(round_trip)
        for round_trip in (0.0, 0.001, NEAR_S, NEAR_S * 1.01, 0.05, 1.0)
    ]
    assert gains == sorted(gains)


def name(number: int) -> Checksum:
    return Checksum(bytes([number]) * 32)


def test_objects_of_unknown_size_are_those_that_parts_make() -> None:
    commit = Commit((), None, "", "", 0, name(1), name(2))
    file = ObjectKind.FILE
    parts = (
        Part(name(3), 400, 900, ((file, name(10)), (file, name(11)))),
        Part(name(4), 100, 3000, ((file, name(12)), (file, name(13)), (file, name(14)))),
        Part(name(5), 7777, 7777, ((file, name(15)),)),
    )
    superblock = Superblock(
        None, name(0), b"", commit, parts, (Fallback(name(20), 55, 66), Fallback(name(21), 5, 6)), {}, None
    )
    here = {name(10), name(12), name(15), name(21)}
    found = estimate_objects_of(superblock, [0, 1], here.__contains__)
    assert found == Estimate(55 + 200 + 2000 // 3, 1 + 1 + 2, 450 + 2000)
