"""Commit streams: what is written comes back; damage raises the documented errors only."""

from __future__ import annotations

from random import Random  # noqa: TC003 - hypothesis reads the annotation

from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.errors import DigestMismatchError, FormatError
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.stream_refs import IMAGE_REF
from cfsctl.ostree.tree.to_tree import commit_to_filesystem
from cfsctl.splitstream import SplitstreamReader
from tests.fakes.object_store import MemoryStore
from tests.support.commits import CommitMaker, checksum_of

_IDS = st.sampled_from([ObjectID(bytes([byte]) * 32) for byte in range(4)])
# Few first bytes, so that buckets have several checksums and many have none.
_CHECKSUMS = st.tuples(st.sampled_from(b"\x00\x01\x7f\xfe\xff"), st.binary(min_size=31, max_size=31)).map(
    lambda parts: Checksum(bytes([parts[0]]) + parts[1])
)
_OBJECTS = st.dictionaries(
    _CHECKSUMS, st.tuples(st.binary(max_size=20), st.none() | _IDS), min_size=0, max_size=30
)


@given(objects=_OBJECTS, commit=st.binary(max_size=30), image=st.none() | _IDS)
def test_what_is_written_is_read(
    objects: dict[Checksum, tuple[bytes, ObjectID | None]], commit: bytes, image: ObjectID | None
) -> None:
    checksum = checksum_of(commit)
    objects[checksum] = (commit, None)
    store = MemoryStore(Algorithm.SHA256)
    refs = {} if image is None else {IMAGE_REF: image}
    object_id = write_commit_stream(store, Algorithm.SHA256, checksum, objects, refs)
    reader = SplitstreamReader(store.objects[object_id], Algorithm.SHA256)
    stream = CommitStream.read(reader)
    assert stream.checksum == checksum
    assert stream.image == image
    assert {name: stream.find(name) for name in stream} == objects
    assert list(stream) == sorted(objects)
    turned = dict(reversed(objects.items()))
    again = write_commit_stream(store, Algorithm.SHA256, checksum, turned, refs)
    assert again == object_id


def _sample() -> tuple[bytes, list[ObjectID]]:
    """Return a commit stream, unpacked, and its object references."""
    maker = CommitMaker()
    content = ObjectID(b"c" * 32)
    files = [
        (b"inline", maker.file(b"inline", xattrs=((b"user.a\0", b"b"),))),
        (b"big", maker.file(b"x" * 100, content)),
        (b"link", maker.symlink(b"target")),
    ]
    inner = maker.dirtree(files)
    dirs = [(b"a", inner, maker.plain), (b"b", inner, maker.dirmeta(0o700))]
    commit = maker.commit(maker.dirtree(files, dirs))
    store = MemoryStore(Algorithm.SHA256)
    object_id = write_commit_stream(store, Algorithm.SHA256, commit, maker.objects)
    reader = SplitstreamReader(store.objects[object_id], Algorithm.SHA256)
    return reader.read_inline(1 << 20), list(reader.object_refs)


_CONTENT, _REFS = _sample()


@settings(max_examples=400)
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 3))
def test_damaged_stream_raises_documented_errors_only(random: Random, count: int) -> None:
    content = bytearray(_CONTENT)
    for _ in range(count):
        # Most of the header are bucket ends, so half of all damage goes elsewhere.
        start = random.choice([0, 1032])
        content[random.randrange(start, len(content))] ^= 1 << random.randrange(8)
    cut = random.choice([len(content), len(content), random.randrange(len(content))])
    try:
        commit_to_filesystem(CommitStream(bytes(content[:cut]), _REFS))
    except (FormatError, DigestMismatchError):
        return


def test_undamaged_stream_raises_none() -> None:
    assert len(commit_to_filesystem(CommitStream(_CONTENT, _REFS)).root.entries) == 5
