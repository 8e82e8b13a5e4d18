"""Reading splitstreams: stored ones, the old header, and what is refused."""

from __future__ import annotations

import hashlib
import os
import struct
import tracemalloc
from pathlib import Path

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.splitstream import ContentType, External, Inline, SplitstreamError, SplitstreamReader
from cfsctl.splitstream import reader as reader_module
from cfsctl.splitstream.format import MAX_NAMED_REFS_BYTES
from tests.fakes.object_store import MemoryStore
from tests.support.splitstreams import HEAD_SIZE, build, chunks, frame, rebuild

_VECTORS = Path(__file__).parents[2] / "vectors" / "splitstream"
_CONTENT = [line.split("\t") for line in (_VECTORS / "content.tsv").read_text().splitlines()[1:]]

SHA256 = Algorithm.SHA256
A, B = ObjectID(b"a" * 32), ObjectID(b"b" * 32)

OLD = bytes.fromhex("2000000000000000 7000000000000000 0000 53706c697453747265616d 00 01 0c".replace(" ", ""))


def _read(data: bytes, content_type: int | None = None) -> SplitstreamReader:
    return SplitstreamReader(data, SHA256, content_type)


def _drain(data: bytes) -> list[Inline | External]:
    return [
        Inline(bytes(chunk.data)) if isinstance(chunk, Inline) else chunk
        for chunk in _read(data).iter_chunks()
    ]


# Stored streams


@pytest.mark.parametrize(("name", "hash_name", "size", "digest"), _CONTENT)
def test_stored_stream_gives_the_content_that_the_original_prints(
    name: str, hash_name: str, size: str, digest: str
) -> None:
    algorithm = Algorithm.from_hash_name(hash_name)
    fd = os.open(_VECTORS / f"{name}-{hash_name}.splitstream", os.O_RDONLY)
    result = bytearray()
    with SplitstreamReader(fd, algorithm, ContentType.OSTREE_COMMIT) as reader:
        assert reader.cat(result.extend, MemoryStore(algorithm).open) == int(size)
        assert reader.find_irregularities() == []
        assert list(reader.named_refs) == ["composefs.image"]
        assert reader.read_inline(int(size)) == result
        reader.check(len)
    assert hashlib.sha256(result).hexdigest() == digest


def test_every_stored_stream_has_a_line() -> None:
    names = {f"{name}-{hash_name}.splitstream" for name, hash_name, *_ in _CONTENT}
    assert {path.name for path in _VECTORS.glob("*.splitstream")} == names


def test_closing_closes_the_descriptor_also_after_a_failure(tmp_path: Path) -> None:
    path = tmp_path / "broken"
    path.write_bytes(b"no splitstream")
    fd = os.open(path, os.O_RDONLY)
    with pytest.raises(SplitstreamError):
        SplitstreamReader(fd, SHA256)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)
    path.write_bytes(build(frame(b"")))
    fd = os.open(path, os.O_RDONLY)
    reader = SplitstreamReader(fd, SHA256)
    reader.close()
    reader.close()
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(fd)


def test_descriptor_that_is_none_is_an_error_of_the_system() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        SplitstreamReader(1 << 20, SHA256)


def test_old_header_is_read() -> None:
    data = build(frame(chunks(b"hello")), size=5, header=OLD)
    assert _drain(data) == [Inline(b"hello")]


def test_parts_are_found_by_their_ranges() -> None:
    tail = frame(b"1:x\0" + b"0:y\0") + A + B
    start = HEAD_SIZE + 9 + len(frame(chunks(b"abc", 0, 1)))
    names_end = start + len(frame(b"1:x\0" + b"0:y\0"))
    refs = (names_end, names_end + 64)
    ranges = {"named_refs": (start, names_end), "stream_refs": refs, "object_refs": refs}
    data = build(frame(chunks(b"abc", 0, 1)), size=99, ranges=ranges) + tail
    reader = _read(data)
    assert reader.named_refs == {"x": B, "y": A}
    assert list(reader.object_refs) == [A, B]
    assert list(reader.iter_chunks())[1:] == [External(0, A), External(1, B)]


def test_longer_information_is_accepted() -> None:
    data = build(frame(chunks(b"hello")), size=5)
    header = b"SplitStream" + struct.pack("<BHBBQQ", 0, 0xFFFF, 1, 12, 32, len(data))
    assert _drain(header + data[32:]) == [Inline(b"hello")]


def test_frames_may_follow_one_another() -> None:
    text = chunks(b"hello world", 0, b"!")
    data = build(frame(text[:11]) + frame(b"") + frame(text[11:]), refs=[A], size=100)
    assert _drain(data) == [Inline(b"hel"), Inline(b"lo world"), External(0, A), Inline(b"!")]


def test_of_a_name_given_twice_the_last_counts_and_is_noted() -> None:
    names = frame(b"0:x\0+1:b\0" + b"001:x\0")
    reader = _read(build(frame(b""), stream_refs=[A, B, A], named_refs=names) + b"tail")
    assert reader.named_refs == {"x": B, "b": B}
    assert reader.find_irregularities() == [
        "named references: a name occurs twice",
        "named references: not sorted by name",
        "stream references: some without a name",
        "4 bytes behind the stream",
    ]


def test_empty_name_is_read_and_noted() -> None:
    reader = _read(build(frame(b""), stream_refs=[A], named_refs=frame(b"0:\0")))
    assert reader.named_refs == {"": A}
    assert reader.find_irregularities() == ["named references: an empty name"]


def test_content_type_guards() -> None:
    data = build(frame(b""), content_type=ContentType.OCI_LAYER)
    assert _read(data, ContentType.OCI_LAYER).content_type == ContentType.OCI_LAYER
    assert _read(data).content_type == 0x726579616C69636F
    with pytest.raises(SplitstreamError, match="expected ostree commit, found oci layer"):
        _read(data, ContentType.OSTREE_COMMIT)
    with pytest.raises(SplitstreamError, match="found 0x0000000000000007"):
        _read(build(frame(b""), content_type=7), ContentType.NONE)


# Refused when opened

_EMPTY = frame(b"")
_GOOD = build(_EMPTY)


def _patched(offset: int, replacement: bytes) -> bytes:
    return _GOOD[:offset] + replacement + _GOOD[offset + len(replacement) :]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", "header: expected 32 bytes, found 0", id="empty"),
        pytest.param(_GOOD[:31], "header: expected 32 bytes, found 31", id="short header"),
        pytest.param(_patched(0, b"splitStream"), "magic", id="magic"),
        pytest.param(_patched(11, b"\1"), "version: expected 0, found 1", id="version"),
        pytest.param(_patched(14, b"\2"), r"algorithm: expected 1 \(sha256\), found 2", id="algorithm"),
        pytest.param(_patched(15, b"\x10"), "block size: expected 2.12, found 2.16", id="block size"),
        pytest.param(OLD[:29] + b"\1" + OLD[30:] + _GOOD[32:], "version", id="old header, version"),
        pytest.param(_GOOD[:111], "information: expected a range", id="cut information"),
        pytest.param(_patched(24, b"\x6f"), "at least 80 bytes, found 79", id="short information"),
        pytest.param(_patched(16, struct.pack("<QQ", 112, 32)), "information", id="negative information"),
        pytest.param(_patched(16, struct.pack("<QQ", 8, 112)), "information", id="information in header"),
        pytest.param(_patched(24, struct.pack("<Q", 1 << 60)), "information", id="information to 2^60"),
        pytest.param(_GOOD[:-1], "stream: expected a range", id="stream beyond the file"),
    ],
)
def test_broken_head_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(SplitstreamError, match=message):
        _read(data)


@pytest.mark.parametrize("section", ["stream_refs", "object_refs", "named_refs", "stream"])
@pytest.mark.parametrize(
    ("start", "end"),
    [
        pytest.param(112, 1 << 60, id="to 2^60"),
        pytest.param(112, 1 << 40, id="to 2^40"),
        pytest.param(1 << 63, (1 << 64) - 1, id="above 2^63"),
        pytest.param(113, 112, id="negative"),
        pytest.param(0, 32, id="in the header"),
        pytest.param((1 << 64) - 1, 112, id="huge negative"),
    ],
)
def test_range_outside_the_file_is_refused_without_an_allocation(section: str, start: int, end: int) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(SplitstreamError, match="expected a range from 32"):
            _read(build(_EMPTY, ranges={section: (start, end)}))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("names", "message"),
    [
        pytest.param(b"", "a complete zstd frame", id="no frame"),
        pytest.param(b"junk and more junk", "damaged", id="no zstd"),
        pytest.param(frame(b"0:x\0")[:-1], "a complete zstd frame", id="cut frame"),
        pytest.param(frame(b"0:x\0") + b"junk", "damaged", id="junk behind the frame"),
        pytest.param(frame(b"0:x"), "a NUL at the end", id="no NUL"),
        pytest.param(frame(b"0x\0"), "<number>:<name>", id="no colon"),
        pytest.param(frame(b"\0"), "<number>:<name>", id="empty record"),
        pytest.param(frame(b":x\0"), "<number>:<name>", id="no number"),
        pytest.param(frame(b"-0:x\0"), "<number>:<name>", id="minus"),
        pytest.param(frame(b"++0:x\0"), "<number>:<name>", id="two signs"),
        pytest.param(frame(b"0 :x\0"), "<number>:<name>", id="blank"),
        pytest.param(frame(b"\xc2\xb2:x\0"), "<number>:<name>", id="superscript"),
        pytest.param(frame(b"9" * 5000 + b":x\0"), "<number>:<name>", id="5000 digits"),
        pytest.param(frame(b"1:x\0"), "one of 1 stream references, found 1", id="out of range"),
        pytest.param(frame(b"0:\xff\0"), "UTF-8", id="not UTF-8"),
    ],
)
def test_broken_names_are_refused(names: bytes, message: str) -> None:
    with pytest.raises(SplitstreamError, match=message):
        _read(build(_EMPTY, stream_refs=[A], named_refs=names))


@pytest.mark.parametrize("section", ["stream_refs", "object_refs"])
def test_half_a_reference_is_refused(section: str) -> None:
    with pytest.raises(SplitstreamError, match="IDs of 32 bytes"):
        _read(build(_EMPTY, refs=[A], ranges={section: (112, 143)}))


def test_names_that_unpack_to_much_are_refused_early() -> None:
    bomb = frame(bytes(MAX_NAMED_REFS_BYTES + 1))
    tracemalloc.start()
    try:
        with pytest.raises(SplitstreamError, match="named references: expected at most"):
            _read(build(_EMPTY, named_refs=bomb))
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_NAMED_REFS_BYTES
    finally:
        tracemalloc.stop()


# Refused when read


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param(b"", "a complete zstd frame", id="no frame"),
        pytest.param(frame(chunks(b"hello"))[:-3], "a complete zstd frame", id="cut frame"),
        pytest.param(frame(chunks(b"hello")) + b"junk!", "damaged", id="junk behind the frame"),
        pytest.param(frame(chunks(b"hello")[:5]), "8 bytes at its start, found 5", id="half a number"),
        pytest.param(frame(chunks(b"hello") + b"\0"), "8 bytes at its start, found 1", id="stray byte"),
        pytest.param(frame(chunks(b"hello")[:-1]), "1 bytes missing", id="cut chunk"),
        pytest.param(frame(chunks(1)), "one of 1 objects, found 1", id="object out of range"),
        pytest.param(frame(chunks((1 << 63) - 1)), "one of 1 objects", id="object 2^63 - 1"),
        pytest.param(frame(chunks(-(1 << 62))), "within the 5 bytes", id="inline chunk of 2^62 bytes"),
        pytest.param(frame(chunks(-(1 << 63))), "within the 5 bytes", id="inline chunk of 2^63 bytes"),
        pytest.param(frame(chunks(b"hello", b"!")), "within the 5 bytes", id="more than claimed"),
    ],
)
def test_broken_stream_is_refused(stream: bytes, message: str) -> None:
    data = build(stream, refs=[A], size=5)
    with pytest.raises(SplitstreamError, match=message):
        _drain(data)
    with pytest.raises(SplitstreamError, match=message):
        _read(data).check(lambda _: 0)


def test_inline_chunk_as_large_as_it_claims_is_not_allocated() -> None:
    stream = frame(chunks(-(1 << 62)) + b"short")
    tracemalloc.start()
    try:
        with pytest.raises(SplitstreamError, match="missing"):
            _drain(build(stream, size=1 << 62))
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_bomb_comes_in_bounded_pieces() -> None:
    size = 256 << 20
    compressor = frame(chunks(-size) + bytes(size))
    data = build(compressor, size=size)
    assert len(data) < 100_000
    largest = max(len(chunk.data) for chunk in _read(data).iter_chunks() if isinstance(chunk, Inline))
    assert largest <= 16 << 20
    with pytest.raises(SplitstreamError, match="stream size: expected at most 1000 bytes"):
        _read(data).read_inline(1000)


def test_window_that_would_take_much_memory_is_refused() -> None:
    # Magic, a descriptor without single segment, and a window of 2^(10 + 16) bytes.
    large = b"\x28\xb5\x2f\xfd\x00" + bytes([16 << 3]) + b"\x01\x00\x00"
    with pytest.raises(SplitstreamError, match="too much memory"):
        _drain(build(large))


def test_more_objects_than_any_stream_has_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader_module, "MAX_EMPTY_OBJECTS", 100)
    assert len(_drain(build(frame(bytes(8 * 105)), refs=[A], size=5))) == 105
    data = build(frame(bytes(8 * 106)), refs=[A], size=5)
    with pytest.raises(SplitstreamError, match="more objects"):
        _read(data).check(lambda _: 0)


@pytest.mark.parametrize(
    ("claimed", "stream"),
    [(12, chunks(b"hello", 0)), (10, chunks(b"hello", 0)), (13, chunks(0, 0)), (1, b"")],
)
def test_size_that_is_not_true_is_noticed(claimed: int, stream: bytes) -> None:
    store = MemoryStore(SHA256)
    data = build(frame(stream), refs=[store.add(b"object")], size=claimed)
    with pytest.raises(SplitstreamError, match="stream size"):
        rebuild(data, store, SHA256)
    with pytest.raises(SplitstreamError, match="stream size"):
        _read(data).check(lambda _: 6)


def test_cat_stops_where_the_claimed_size_ends() -> None:
    store = MemoryStore(SHA256)
    data = build(frame(chunks(*[0] * 1000)), refs=[store.add(bytes(1 << 20))], size=1 << 20)
    written = 0

    def write(piece: bytes | memoryview) -> None:
        nonlocal written
        written += len(piece)

    with pytest.raises(SplitstreamError, match="found more"):
        _read(data).cat(write, store.open)
    assert written == 2 << 20


def test_stream_of_inline_data_has_no_objects() -> None:
    data = build(frame(chunks(b"hello", 0)), refs=[A], size=11)
    with pytest.raises(SplitstreamError, match="inline data only"):
        _read(data).read_inline(100)
    assert _read(build(frame(chunks(b"hel", b"lo")), size=5)).read_inline(5) == b"hello"
    with pytest.raises(SplitstreamError, match="stream size: expected 6 bytes in chunks, found 5 bytes"):
        _read(build(frame(chunks(b"hel", b"lo")), size=6)).read_inline(6)


def test_file_that_shrinks_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(build(frame(chunks(bytes(range(256)) * 100)), size=25600))
    with SplitstreamReader(os.open(path, os.O_RDONLY), SHA256) as reader:
        os.truncate(path, HEAD_SIZE + 20)
        with pytest.raises(SplitstreamError, match="file: expected"):
            list(reader.iter_chunks())


def test_stream_can_be_read_again_and_by_turns() -> None:
    reader = _read(build(frame(chunks(b"abc", 0, b"de")), refs=[A], size=9))
    first, second = reader.iter_chunks(), reader.iter_chunks()
    assert [next(first), next(second), *first] == [
        Inline(b"abc"),
        Inline(b"abc"),
        External(0, A),
        Inline(b"de"),
    ]
    assert [*second] == [External(0, A), Inline(b"de")]


def test_some_object_references_are_read_alone() -> None:
    ids = [bytes([number]) * 32 for number in range(9)]
    data = build(frame(b""), refs=ids)
    with SplitstreamReader(data, Algorithm.SHA256, lists_objects=False) as reader:
        assert reader.object_count == 9
        assert list(reader.read_object_refs(slice(2, 5))) == ids[2:5]
        assert list(reader.read_object_refs(slice(7, 99))) == ids[7:]
        assert list(reader.read_object_refs(slice(5, 2))) == []
        assert list(reader.object_refs) == ids


def test_object_references_are_not_read_for_a_stream_that_needs_none(tmp_path: Path) -> None:
    path = tmp_path / "stream"
    path.write_bytes(build(frame(chunks(b"abc", b"de")), refs=[A, B], size=5))
    with SplitstreamReader(os.open(path, os.O_RDONLY), SHA256, lists_objects=False) as reader:
        assert list(reader.iter_chunks()) == [Inline(b"abc"), Inline(b"de")]
        assert "object_refs" not in vars(reader)
        assert list(reader.object_refs) == [A, B]


def test_number_of_no_object_is_refused_also_where_references_are_not_read() -> None:
    data = build(frame(chunks(b"abc", 1)), refs=[A], size=9)
    with SplitstreamReader(data, SHA256, lists_objects=False) as reader:
        found = reader.iter_chunks()
        assert next(found) == Inline(b"abc")
        with pytest.raises(SplitstreamError, match="the number of one of 1 objects"):
            next(found)
