"""What was decoded is kept, up to a size; what was used last stays."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from cfsctl.digest import ObjectID
from cfsctl.ostree.store.opened_streams import MAX_KEPT_BYTES, OpenedStreams

if TYPE_CHECKING:
    from cfsctl.ostree.store.commit_stream import CommitStream


class Stream:
    def __init__(self, data_bytes: int) -> None:
        self.data_bytes = data_bytes


def stream(data_bytes: int) -> CommitStream:
    return cast("CommitStream", Stream(data_bytes))


def test_latest_are_kept() -> None:
    streams = OpenedStreams()
    ids = [ObjectID(bytes([number]) * 32) for number in range(4)]
    kept = [stream(MAX_KEPT_BYTES // 3) for _ in ids]
    for object_id, one in zip(ids[:3], kept, strict=False):
        streams.keep(object_id, one)
    assert streams.find(ids[0]) is kept[0]
    streams.keep(ids[3], kept[3])
    assert streams.find(ids[1]) is None
    assert [streams.find(ids[number]) for number in (0, 2, 3)] == [kept[0], kept[2], kept[3]]


def test_one_that_is_too_large_is_not_kept() -> None:
    streams = OpenedStreams()
    streams.keep(ObjectID(b"a" * 32), stream(MAX_KEPT_BYTES + 1))
    assert streams.find(ObjectID(b"a" * 32)) is None
