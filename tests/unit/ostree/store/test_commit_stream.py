"""Commit streams: stored ones, the worked example, and what is refused."""

from __future__ import annotations

import hashlib
import struct
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.errors import DigestMismatchError
from cfsctl.ostree.limits import LimitError
from cfsctl.ostree.objects import ObjectKind, OstreeObjectError
from cfsctl.ostree.store import commit_stream as module
from cfsctl.ostree.store.commit_stream import CommitStream, CommitStreamError
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.refs import stream_name
from cfsctl.ostree.store.stream_refs import IMAGE_REF
from cfsctl.splitstream import ContentType, SplitstreamError, SplitstreamReader
from tests.fakes.object_store import MemoryStore
from tests.support.commits import CommitMaker, checksum_of
from tests.support.splitstreams import build, chunks, frame

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_VECTORS = Path(__file__).parents[3] / "vectors"
_COMMITS = {
    (row[0], row[2]): Checksum(bytes.fromhex(row[1]))
    for row in (
        line.split("\t")
        for line in (_VECTORS / "ostree" / "images" / "images.tsv").read_text().splitlines()[1:]
    )
}

SHA256 = Algorithm.SHA256
CONTENT = ObjectID(b"c" * 32)
NONE = 0xFFFFFFFF


def _open(name: str, hash_name: str) -> SplitstreamReader:
    path = _VECTORS / "splitstream" / f"{name}-{hash_name}.splitstream"
    return SplitstreamReader(path.read_bytes(), Algorithm.from_hash_name(hash_name))


# Stored streams


@pytest.mark.parametrize(("name", "hash_name"), _COMMITS)
def test_stored_stream_has_the_commit_and_is_written_the_same(name: str, hash_name: str) -> None:
    algorithm = Algorithm.from_hash_name(hash_name)
    reader = _open(name, hash_name)
    stream = CommitStream.read(reader, _COMMITS[name, hash_name])
    assert stream.commit.root_dirtree in list(stream)
    assert stream.image == reader.named_refs[IMAGE_REF]
    store = MemoryStore(algorithm)
    objects = {checksum: _found(stream, checksum) for checksum in stream}
    image = stream.image
    object_id = write_commit_stream(store, algorithm, stream.checksum, objects, {IMAGE_REF: image})
    again = SplitstreamReader(store.objects[object_id], algorithm, ContentType.OSTREE_COMMIT)
    limit = module.MAX_CONTENT_BYTES
    assert again.read_inline(limit) == reader.read_inline(limit)
    assert again.object_refs == reader.object_refs
    assert again.named_refs == reader.named_refs


def _found(stream: CommitStream, checksum: Checksum) -> tuple[bytes, ObjectID | None]:
    found = stream.find(checksum)
    assert found is not None
    return found


def test_stored_stream_has_every_kind_of_object() -> None:
    stream = CommitStream.read(_open("xattr-1", "sha256"))
    external = 0
    for checksum in stream:
        data, object_id = _found(stream, checksum)
        external += object_id is not None
        is_metadata = hashlib.sha256(data).digest() == checksum
        assert is_metadata or object_id is not None or len(data) < 1000
    assert len(stream) == 339
    assert external == 15
    assert stream.commit.subject == "extended attributes"


def test_worked_example() -> None:
    # The places of the four objects in the specification of the format; data is only as long as there.
    ids = [bytes.fromhex(text) + bytes(28) for text in ("0fede282", "446a0ef1", "598fd5d7")]
    commit = b"commit".ljust(142, b"!")
    table = {
        Checksum(ids[0]): (bytes(63), None),
        Checksum(ids[1]): (bytes(12), None),
        Checksum(ids[2]): (bytes(49), None),
        checksum_of(commit): (commit, None),
    }
    commit_id = checksum_of(commit)
    assert commit_id[0] > 0x59
    content = _content(commit_id, table)
    assert len(content) == 1488
    assert content[:8] == bytes.fromhex("0300000000000000")
    places = 8 + 1024 + 4 * 32
    assert content[places : places + 48] == bytes.fromhex(
        "00000000 3f000000 ffffffff 08000000 0c000000 ffffffff"
        "0a000000 31000000 ffffffff 11000000 8e000000 ffffffff"
    )
    ends = struct.unpack_from("<256I", content, 8)
    assert [ends[byte] for byte in (0, 0x0E, 0x0F, 0x43, 0x44, 0x58, 0x59)] == [0, 0, 1, 1, 2, 2, 3]
    assert ends[255] == 4


def _content(commit: Checksum, objects: Mapping[Checksum, tuple[bytes, ObjectID | None]]) -> bytes:
    """Return what the writer makes of a commit, unpacked."""
    store = MemoryStore(SHA256)
    object_id = write_commit_stream(store, SHA256, commit, objects)
    return SplitstreamReader(store.objects[object_id], SHA256).read_inline(1 << 30)


# Reading


def test_objects_are_found_by_name() -> None:
    maker = CommitMaker()
    inline, external = maker.file(b"inline"), maker.file(b"x" * 100, CONTENT)
    commit = maker.commit(maker.dirtree([(b"a", inline), (b"b", external)]))
    stream = CommitStream(_content(commit, maker.objects), [CONTENT], checksum=commit)
    assert len(stream) == len(maker.objects)
    assert list(stream) == sorted(maker.objects)
    for checksum, found in maker.objects.items():
        assert stream.find(checksum) == found
    for byte in (0, 1, 255):
        assert stream.find(Checksum(bytes([byte]) * 32)) is None
    assert stream.commit_data == maker.objects[commit][0]
    assert stream.image is None
    assert stream_name(commit) == f"ostree-commit-{commit.hex()}"


def test_names_besides_the_image_are_kept() -> None:
    maker = CommitMaker()
    commit = maker.commit(maker.dirtree())
    store = MemoryStore(SHA256)
    named = {"other": ObjectID(b"o" * 32), IMAGE_REF: ObjectID(b"i" * 32)}
    object_id = write_commit_stream(store, SHA256, commit, maker.objects, named)
    reader = SplitstreamReader(store.objects[object_id], SHA256)
    assert reader.named_refs == {"composefs.image": b"i" * 32, "other": b"o" * 32}
    assert CommitStream.read(reader, commit).image == b"i" * 32


def test_content_may_come_in_several_chunks() -> None:
    maker = CommitMaker()
    commit = maker.commit(maker.dirtree())
    content = _content(commit, maker.objects)
    stream = frame(chunks(content[:1100], content[1100:]))
    data = build(stream, size=len(content), content_type=ContentType.OSTREE_COMMIT)
    assert CommitStream.read(SplitstreamReader(data, SHA256)).checksum == commit
    stream = frame(chunks(content[:1100], content[1100:], 0))
    data = build(stream, refs=[CONTENT], size=len(content), content_type=ContentType.OSTREE_COMMIT)
    with pytest.raises(SplitstreamError, match="inline data only"):
        CommitStream.read(SplitstreamReader(data, SHA256))


def test_other_content_type_is_refused() -> None:
    reader = SplitstreamReader(build(frame(b"")), SHA256)
    with pytest.raises(CommitStreamError, match="content type: expected 0xafe138c18c463ef1, found 0x0"):
        CommitStream.read(reader)


def test_metadata_is_verified() -> None:
    maker = CommitMaker()
    file = maker.file(b"x" * 100, CONTENT)
    dirtree = maker.dirtree([(b"a", file)])
    commit = maker.commit(dirtree)
    stream = CommitStream(_content(commit, maker.objects), [CONTENT])
    assert stream.get_metadata(dirtree, ObjectKind.DIRTREE) == maker.objects[dirtree][0]
    with pytest.raises(CommitStreamError, match="expected a dirmeta, found a file"):
        stream.get_metadata(file, ObjectKind.DIRMETA)
    missing = Checksum(b"m" * 32)
    with pytest.raises(CommitStreamError, match=f"all objects of the commit, found no dirtree {b'm'.hex()}"):
        stream.get_metadata(missing, ObjectKind.DIRTREE)
    broken = maker.objects | {dirtree: (maker.objects[dirtree][0] + b"!", None)}
    stream = CommitStream(_content(commit, broken), [CONTENT])
    with pytest.raises(DigestMismatchError, match="dirtree object"):
        stream.get_metadata(dirtree, ObjectKind.DIRTREE)


def test_commit_must_be_what_its_name_says() -> None:
    maker = CommitMaker()
    commit = maker.commit(maker.dirtree())
    content = _content(commit, maker.objects)
    with pytest.raises(DigestMismatchError, match="commit stream: expected digest 6161"):
        CommitStream(content, [], checksum=Checksum(b"a" * 32))
    data = maker.objects[commit][0]
    with pytest.raises(DigestMismatchError, match="commit object"):
        CommitStream(_content(commit, maker.objects | {commit: (data + b"!", None)}), [])


def test_commit_that_is_a_file_or_nonsense_is_refused() -> None:
    maker = CommitMaker()
    file, nonsense = maker.file(b"x" * 100, CONTENT), maker.add(b"nonsense")
    content = _content(file, maker.objects)
    with pytest.raises(CommitStreamError, match="expected a commit, found a file"):
        CommitStream(content, [CONTENT])
    stream = CommitStream(_content(nonsense, maker.objects), [CONTENT])
    with pytest.raises(OstreeObjectError, match=f"commit object {nonsense.hex()}"):
        _ = stream.commit


# Broken tables


def _patch(offset: int, replacement: bytes) -> Callable[[bytes], bytes]:
    return lambda content: content[:offset] + replacement + content[offset + len(replacement) :]


def _word(value: int) -> bytes:
    return struct.pack("<I", value)


_IDS = 8 + 1024


def _table(ids: Sequence[bytes], position: int = 0, *, ends: Sequence[int] | None = None) -> bytes:
    """Return a commit stream of objects without data; its commit is never looked at."""
    if ends is None:
        ends = [*(bisect_left(ids, bytes([byte + 1])) for byte in range(255)), len(ids)]
    return (
        struct.pack("<II256I", position, 0, *ends)
        + b"".join(ids)
        + struct.pack("<III", 0, 0, NONE) * len(ids)
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda content: content[:1031], "header: expected at least 1032", id="short"),
        pytest.param(lambda _: b"", "header", id="empty"),
        pytest.param(_patch(4, _word(1)), "flags: expected 0, found 0x1", id="flags"),
        pytest.param(_patch(0, _word(3)), "commit: expected the number of one of 3", id="commit"),
        pytest.param(_patch(0, _word(NONE)), "commit: expected the number", id="partial commit"),
        pytest.param(_patch(8, _word(7)), "buckets: expected an end of at least 7", id="descending buckets"),
        pytest.param(_patch(8 + 4 * 255, _word(1 << 31)), "table: expected 2147483648", id="count"),
        pytest.param(_patch(8 + 4 * 255, _word(4)), "table|ascending|place", id="one more"),
        pytest.param(lambda content: content[: _IDS + 44 * 3 - 1], "table: expected 3 objects", id="cut"),
        pytest.param(_patch(_IDS + 96, _word(1 << 31)), "place: expected data within", id="offset"),
        pytest.param(_patch(_IDS + 100, _word(NONE)), "place: expected data within", id="size"),
        pytest.param(_patch(_IDS + 104, _word(1)), "place: expected the number of one of 1", id="object"),
        pytest.param(lambda content: content[:-8], "place: expected data within", id="cut data"),
    ],
)
def test_broken_stream_is_refused(change: Callable[[bytes], bytes], message: str) -> None:
    maker = CommitMaker()
    commit = maker.commit(maker.dirtree())
    content = _content(commit, maker.objects)
    assert len(maker.objects) == 3
    CommitStream(content, [CONTENT])
    with pytest.raises(CommitStreamError, match=message):
        CommitStream(change(content), [CONTENT])


@pytest.mark.parametrize(
    ("ids", "ends", "message"),
    [
        pytest.param([b"b" * 32, b"a" * 32], None, "ascending", id="descending"),
        pytest.param([b"a" * 32, b"a" * 32], None, "ascending", id="twice"),
        pytest.param([b"a" * 32], [0] * 98 + [1] * 158, "buckets", id="bucket too late"),
        pytest.param([b"a" * 32], [0] * 96 + [1] * 160, "buckets", id="bucket too early"),
        pytest.param([b"a" * 32, b"c" * 32], [0] * 97 + [2] * 159, "buckets", id="one bucket for two"),
    ],
)
def test_broken_order_is_refused(ids: list[bytes], ends: list[int] | None, message: str) -> None:
    with pytest.raises(CommitStreamError, match=message):
        CommitStream(_table(ids, ends=ends), [])


def test_right_buckets_are_accepted() -> None:
    ids = [b"\0" * 32, b"\0" * 31 + b"\1", b"a" * 32, b"\xff" * 32]
    with pytest.raises(DigestMismatchError):  # which comes after all checks of the table
        CommitStream(_table(ids), [])


def test_stream_without_objects_is_refused() -> None:
    with pytest.raises(CommitStreamError, match="one of 0 objects"):
        CommitStream(_table([]), [])


# Writing


def test_commit_must_be_among_the_objects() -> None:
    with pytest.raises(ValueError, match="not among its objects"):
        write_commit_stream(MemoryStore(SHA256), SHA256, Checksum(b"a" * 32), {})


class _Huge(bytes):
    """Data that says it is larger than it is."""

    def __len__(self) -> int:
        return 1 << 32


def test_object_that_is_too_large_is_refused() -> None:
    store = MemoryStore(SHA256)
    checksum = Checksum(b"a" * 32)
    with pytest.raises(LimitError, match="less than 4 GiB"):
        write_commit_stream(store, SHA256, checksum, {checksum: (_Huge(), None)})
    assert store.objects == {}


def test_external_objects_are_numbered_in_the_order_of_the_table() -> None:
    maker = CommitMaker()
    ids = [ObjectID(bytes([byte]) * 32) for byte in range(3)]
    files = [maker.file(b"x" * 100 + bytes([byte]), ids[byte % 3]) for byte in range(20)]
    commit = maker.commit(maker.dirtree((b"%d" % place, file) for place, file in enumerate(files)))
    store = MemoryStore(SHA256)
    object_id = write_commit_stream(store, SHA256, commit, maker.objects)
    reader = SplitstreamReader(store.objects[object_id], SHA256)
    used = [maker.objects[checksum][1] for checksum in sorted(files)]
    assert list(reader.object_refs) == list(dict.fromkeys(used))
