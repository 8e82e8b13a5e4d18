"""Writing splitstreams: the bytes of the original, in constant memory."""

from __future__ import annotations

import tracemalloc
from pathlib import Path
from random import Random

import pytest
import zstandard

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.splitstream import ContentType, SplitstreamReader, SplitstreamWriter
from tests.fakes.object_store import MemoryStore
from tests.support.splitstreams import rebuild, rewrite

_VECTORS = Path(__file__).parents[2] / "vectors" / "splitstream"
_SAME_LIBRARY = zstandard.ZSTD_VERSION == (1, 5, 7)

SHA256 = Algorithm.SHA256

MIXED = bytes.fromhex(
    """
    53706c697453747265616d000000010c 20000000000000007000000000000000
    7000000000000000b000000000000000 b000000000000000d000000000000000
    ea000000000000000f01000000000000 d000000000000000ea00000000000000
    6f63696c61796572cf00000000000000 3128eeba3e463c2ff529d3aa1a5c4844
    3113bd037c1759f55ab88ba5c2d445ed 555b589c26ee43b7a2510e6c67ced9fb
    3190b6da6e9e683984551f5d77a763de e40425eaca55b3aca9994575b03b1585
    ff756c4684395fa144ee2642aeaf1d49 28b52ffd0058890000313a6669727374
    00303a7365636f6e640028b52ffd0058 e5000098faff68656c6c6f2000ff0a00
    00000000000000031000596433 6001
    """
)


@pytest.mark.skipif(not _SAME_LIBRARY, reason="the bytes depend on the zstd library; these are of 1.5.7")
@pytest.mark.parametrize("path", sorted(_VECTORS.glob("*.splitstream")), ids=lambda path: path.stem)
def test_stored_stream_written_again_is_the_same_file(path: Path) -> None:
    algorithm = Algorithm.from_hash_name(path.stem.rpartition("-")[2])
    data = path.read_bytes()
    assert rewrite(data, MemoryStore(algorithm), algorithm) == data


@pytest.mark.parametrize(
    ("algorithm", "object_id"),
    [
        (Algorithm.SHA256, "7ff9fe4ec4e321464efd75c3fde78232cad5f8d6e7f11d31245043c163e16f8e"),
        (
            Algorithm.SHA512,
            "da12831d4fc186172cf4219daa53396d57580c3193910bc11e4ac1a12958b1b3"  # noqa: ISC004 - one digest
            "15b8bf385076f7d51c371fe693ed41b2c8ee3602d19fccc38891108f261be36d",
        ),
    ],
)
def test_empty_stream(algorithm: Algorithm, object_id: str) -> None:
    store = MemoryStore(algorithm)
    assert SplitstreamWriter(store, algorithm, ContentType.NONE).finish().hex() == object_id
    assert [len(data) for data in store.objects.values()] == [130]


def _write_mixed(store: MemoryStore) -> bytes:
    writer = SplitstreamWriter(store, SHA256, ContentType.OCI_LAYER)
    content = store.add(b"A" * 100)
    writer.add_named_ref("second", compute_digest(b"world", SHA256))
    writer.add_named_ref("first", compute_digest(b"hello", SHA256))
    writer.write_inline(b"hel")
    writer.write_inline(b"")
    writer.write_inline(bytearray(b"lo "))
    writer.write_external(content, 100)
    writer.write_inline(memoryview(b"\n"))
    writer.write_external(content, 100)
    return store.objects[writer.finish()]


def test_mixed_stream() -> None:
    store = MemoryStore(SHA256)
    data = _write_mixed(store)
    assert data == MIXED
    assert (
        compute_digest(data, SHA256).hex()
        == "6b142f76a03940ffadafdab47479b77808f6221849dfb778692ef1d743f30a7c"
    )
    assert rebuild(data, store, SHA256) == b"hello " + b"A" * 100 + b"\n" + b"A" * 100
    old = MIXED[16:32] + bytes(2) + MIXED[:12] + MIXED[14:16] + MIXED[32:]
    assert compute_digest(old, SHA256).hex().startswith("77f55928841eb810")
    assert rebuild(old, store, SHA256) == rebuild(data, store, SHA256)


def test_references_are_numbered_as_they_come_and_once() -> None:
    store = MemoryStore(SHA256)
    ids = [store.add(bytes([byte])) for byte in range(4)]
    with SplitstreamWriter(store, SHA256, 7) as writer:
        assert [writer.add_object_ref(ids[place]) for place in (3, 1, 3)] == [0, 1, 0]
        writer.write_external(ids[2], 1)
        writer.write_external(ids[1], 1)
        for name, place in (("b", 2), ("a", 2), ("b", 0), ("c:d", 2)):
            writer.add_named_ref(name, ids[place])
        reader = SplitstreamReader(store.objects[writer.finish()], SHA256, 7)
    assert list(reader.object_refs) == [ids[3], ids[1], ids[2]]
    assert list(reader.stream_refs) == [ids[2], ids[0]]
    assert list(reader.named_refs.items()) == [("a", ids[2]), ("b", ids[0]), ("c:d", ids[2])]
    assert reader.find_irregularities() == []


def test_declared_run_gives_the_same_file() -> None:
    data = Random(1).randbytes(300_000)
    results = []
    store = MemoryStore(SHA256)
    for is_declared in (False, True):
        content = store.add(b"content")
        writer = SplitstreamWriter(store, SHA256, 0)
        writer.write_external(content, 7)
        if is_declared:
            writer.begin_inline(len(data))
        for place in range(0, len(data), 7001):
            writer.write_inline(data[place : place + 7001])
        writer.write_external(content, 7)
        writer.begin_inline(0)
        writer.write_inline(b"tail")
        results.append(store.objects[writer.finish()])
    assert results[0] == results[1]
    assert rebuild(results[0], store, SHA256) == b"content" + data + b"contenttail"


@pytest.mark.parametrize("is_declared", [True, False])
def test_memory_is_constant_and_nothing_stays_open(is_declared: bool) -> None:  # noqa: FBT001 - a case
    store = MemoryStore(SHA256)
    random = Random(2)
    total = 24 << 20
    tracemalloc.start()
    try:
        with SplitstreamWriter(store, SHA256, 0) as writer:
            if is_declared:
                writer.begin_inline(total)
            for _ in range(total >> 18):
                writer.write_inline(random.randbytes(1 << 18))
            before, _ = tracemalloc.get_traced_memory()
            # The store of these tests keeps the result in memory; up to here nothing of it is there.
            assert before < 3 << 20
            object_id = writer.finish()
    finally:
        tracemalloc.stop()
    assert store.open_files == 0
    assert store.scratch_files == (1 if is_declared else 2)
    random = Random(2)
    expected = b"".join(random.randbytes(1 << 18) for _ in range(total >> 18))
    assert rebuild(store.objects[object_id], store, SHA256) == expected


def test_leaving_without_finishing_leaves_nothing() -> None:
    store = MemoryStore(SHA256)
    with SplitstreamWriter(store, SHA256, 0) as writer:
        writer.write_inline(Random(3).randbytes(3 << 20))
        assert store.open_files == 1
    assert store.open_files == 0
    assert store.objects == {}


def test_wrong_use_is_refused() -> None:
    store = MemoryStore(SHA256)
    content = store.add(b"content")
    with pytest.raises(ValueError, match="64 bits"):
        SplitstreamWriter(store, SHA256, 1 << 64)
    writer = SplitstreamWriter(store, SHA256, 0)
    for name in ("", "a\0b"):
        with pytest.raises(ValueError, match="without NUL"):
            writer.add_named_ref(name, content)
    with pytest.raises(UnicodeEncodeError):
        writer.add_named_ref("\udcff", content)
    with pytest.raises(ValueError, match="expected 32 bytes, found 64"):
        writer.add_named_ref("name", ObjectID(bytes(64)))
    with pytest.raises(ValueError, match="expected 32 bytes, found 31"):
        writer.add_object_ref(ObjectID(bytes(31)))


def test_declared_run_must_be_exact() -> None:
    store = MemoryStore(SHA256)
    writer = SplitstreamWriter(store, SHA256, 0)
    writer.begin_inline(5)
    with pytest.raises(RuntimeError, match="6 bytes of inline data, 5 of the run are left"):
        writer.write_inline(b"123456")
    writer.write_inline(b"123")
    for write in (writer.finish, lambda: writer.write_external(ObjectID(bytes(32)), 1)):
        with pytest.raises(RuntimeError, match="2 bytes of inline data that were announced are missing"):
            write()


def test_declared_run_is_a_chunk_of_its_own() -> None:
    writer = SplitstreamWriter(MemoryStore(SHA256), SHA256, 0)
    writer.write_inline(b"x")
    with pytest.raises(RuntimeError, match="just before"):
        writer.begin_inline(5)
    writer.write_external(ObjectID(bytes(32)), 1)
    writer.begin_inline(1)
    writer.write_inline(b"y")
    with pytest.raises(RuntimeError, match="behind a run"):
        writer.write_inline(b"z")
    with pytest.raises(RuntimeError, match="just before"):
        writer.begin_inline(1)
