"""A stream whose rows were mostly lent by another is, byte for byte, the one that is written from nothing."""

from __future__ import annotations

import struct
from random import Random

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.ostree.objects.held_objects import HeldObjects
from cfsctl.ostree.store import commit_rows
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.splitstream import SplitstreamReader
from tests.fakes.object_store import MemoryStore
from tests.support.commits import checksum_of

Objects = dict[Checksum, tuple[bytes, ObjectID | None]]

_IDS = st.sampled_from([ObjectID(bytes([byte]) * 32) for byte in range(6)])
_CHECKSUMS = st.tuples(st.sampled_from(b"\x00\x01\x7f\xff"), st.binary(min_size=31, max_size=31)).map(
    lambda parts: Checksum(bytes([parts[0]]) + parts[1])
)
_OBJECTS = st.dictionaries(_CHECKSUMS, st.tuples(st.binary(max_size=20), st.none() | _IDS), max_size=25)


def stored(objects: Objects) -> CommitStream:
    """Return a commit with these objects, as it is read from a store."""
    store = MemoryStore(Algorithm.SHA256)
    commit = checksum_of(b"old commit")
    object_id = write_commit_stream(
        store, Algorithm.SHA256, commit, {**objects, commit: (b"old commit", None)}
    )
    return CommitStream.read(SplitstreamReader(store.objects[object_id], Algorithm.SHA256))


def written(objects: Objects | HeldObjects) -> tuple[bytes, list[ObjectID]]:
    """Return the rebuilt stream of a new commit, and its references."""
    store = MemoryStore(Algorithm.SHA256)
    object_id = write_commit_stream(store, Algorithm.SHA256, checksum_of(b"new commit"), objects)
    reader = SplitstreamReader(store.objects[object_id], Algorithm.SHA256)
    return reader.read_inline(1 << 24), list(reader.object_refs)


def held(lenders: list[tuple[CommitStream, set[Checksum]]], own: Objects) -> HeldObjects:
    objects = HeldObjects()
    for lender, checksums in lenders:
        objects.lend(lender, checksums)
    for checksum, entry in own.items():
        objects.add(checksum, *entry)
    return objects


@given(base=_OBJECTS, other=_OBJECTS, new=_OBJECTS, kept=st.sets(st.integers(0, 24)))
def test_what_was_lent_is_written_like_anything_else(
    base: Objects, other: Objects, new: Objects, kept: set[int]
) -> None:
    carried = {name for number, name in enumerate(base) if number not in kept}
    own: Objects = {**new, checksum_of(b"new commit"): (b"new commit", None)}
    carried -= own.keys()
    from_other = other.keys() - own.keys() - carried
    first, second = stored(base), stored(other)
    expected = {
        **{name: base[name] for name in carried},
        **{name: other[name] for name in from_other},
        **own,
    }
    objects = held([(first, carried), (second, set(from_other))], own)
    assert objects == expected
    assert written(objects) == written(expected)


def turned(stream: CommitStream) -> CommitStream:
    """Return the same commit with the data of its objects in another order, as a stream may have them."""
    table = stream.table
    content = bytearray(stream._content[: stream._data_start])
    data = bytearray()
    order = list(range(len(table.checksums)))
    Random(1).shuffle(order)
    for row in order:
        start = table.starts[row] * 8
        place = stream._places_start + row * 12
        struct.pack_into("<I", content, place, len(data) // 8)
        data += bytes(table.data[start : start + table.sizes[row]])
        data += b"\xaa" * (-len(data) % 8)
    return CommitStream(bytes(content + data), stream.object_refs)


def test_data_that_lie_elsewhere_are_not_copied_in_runs() -> None:
    base: Objects = {
        checksum_of(b"%d" % number): (b"%d" % number * number, ObjectID(bytes([number % 7]) * 32))
        for number in range(40)
    }
    odd = turned(stored(base))
    own: Objects = {checksum_of(b"new commit"): (b"new commit", None)}
    assert not commit_rows._is_plain(odd.table)
    assert written(held([(odd, set(base))], own)) == written({**base, **own})


def test_padding_that_is_not_zero_is_not_copied() -> None:
    base: Objects = {checksum_of(b"%d" % number): (b"abc", None) for number in range(9)}
    stream = stored(base)
    content = bytearray(stream._content)
    content[-1] ^= 1
    odd = CommitStream(bytes(content), stream.object_refs)
    own: Objects = {checksum_of(b"new commit"): (b"new commit", None)}
    assert commit_rows._is_plain(stream.table)
    assert not commit_rows._is_plain(odd.table)
    assert written(held([(odd, set(base))], own)) == written({**base, **own})
