"""Sets of live objects: many are packed, and the answers stay the same."""

from __future__ import annotations

import hashlib
from random import Random

import pytest

from cfsctl.digest import ObjectID
from cfsctl.repository.gc.live import LiveObjects

LENGTH = 126


def make_ids(count: int, seed: int = 0) -> list[ObjectID]:
    return [ObjectID(hashlib.sha512(b"%d %d" % (seed, number)).digest()) for number in range(count)]


@pytest.fixture(params=[0, 7, 1000], ids=lambda most: f"{most} exact")
def live(request: pytest.FixtureRequest) -> LiveObjects:
    return LiveObjects(request.param)


def test_what_was_added_is_found_and_nothing_else(live: LiveObjects) -> None:
    chance = Random(1)
    ids, others = make_ids(500), make_ids(500, 1)
    for _ in range(40):
        live.update(chance.choices(ids[:300], k=20))
    live.update(ids[:300])
    live.add(ids[300])
    assert live.find(ids + others) == set(ids[:301])
    assert live.find([]) == set()


def test_names_that_are_not_live_are_left(live: LiveObjects) -> None:
    ids = make_ids(2000)
    live.update(ids[:1000])
    for first in range(256):
        inside = [object_id for object_id in ids if object_id[0] == first]
        names = [object_id.hex()[2:] for object_id in inside]
        dead = [object_id.hex()[2:] for object_id in inside if object_id in set(ids[1000:])]
        assert live.drop_from(names, f"{first:02x}", LENGTH) == dead


@pytest.mark.parametrize("name", ["", "x", "tmp.1", "A" * LENGTH, "zz" * 63, "ü" * LENGTH, "a" * 9])
def test_names_of_no_object_are_left(live: LiveObjects, name: str) -> None:
    live.update(make_ids(100))
    assert live.drop_from([name], "00", LENGTH) == [name]


def test_a_name_that_only_begins_like_an_object_is_left(live: LiveObjects) -> None:
    (object_id,) = make_ids(1)
    live.update([object_id])
    name = object_id.hex()[2:]
    names = [name[:20], name + "00", name + ".tmp", name]
    assert live.drop_from(names, object_id.hex()[:2], LENGTH) == names[:3]


def test_equal_ones_take_room_once() -> None:
    live = LiveObjects(0)
    ids = make_ids(1000)
    for _ in range(50):
        live.update(ids)
    assert len(live) <= 2 * len(ids)
    assert not live.exact
