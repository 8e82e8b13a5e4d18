"""Splitstreams: what is written comes back, however it is cut; damage raises one kind of error only."""

from __future__ import annotations

from random import Random  # noqa: TC003 - hypothesis reads the annotation
from typing import TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.splitstream import Inline, SplitstreamError, SplitstreamReader, SplitstreamWriter
from cfsctl.splitstream import _source as source_module
from tests.fakes.object_store import MemoryStore
from tests.support.splitstreams import build, chunks, frame, rewrite

_ALGORITHMS = st.sampled_from(Algorithm)
_OBJECTS = [b"", b"object", bytes(5000)]

Part: TypeAlias = "bytes | int"
"""Inline data, or the number of one of `_OBJECTS`."""

_PARTS: st.SearchStrategy[list[Part]] = st.lists(
    st.one_of(st.binary(max_size=40), st.integers(0, 2), st.just(b"repeated " * 900)), max_size=12
)
_NAMES = st.text(min_size=1, max_size=8).filter(lambda name: "\0" not in name and _is_encodable(name))


def _is_encodable(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _write(
    parts: list[Part], names: dict[str, int], algorithm: Algorithm, cut: int, *, is_declared: bool = False
) -> tuple[bytes, MemoryStore]:
    """Write a stream, inline data in pieces of `cut` bytes; return the file and the store."""
    store = MemoryStore(algorithm)
    ids = [store.add(data) for data in _OBJECTS]
    with SplitstreamWriter(store, algorithm, 5) as writer:
        for name, place in names.items():
            writer.add_named_ref(name, ids[place])
        for part in _merge(parts):
            if isinstance(part, int):
                writer.write_external(ids[part], len(_OBJECTS[part]))
                continue
            if is_declared:
                writer.begin_inline(len(part))
            for place in range(0, len(part), cut):
                writer.write_inline(part[place : place + cut])
        return store.objects[writer.finish()], store


def _merge(parts: list[Part]) -> list[Part]:
    """Join inline data that follow one another."""
    merged: list[Part] = []
    for part in parts:
        last = merged[-1] if merged else 0
        if isinstance(part, bytes) and isinstance(last, bytes):
            merged[-1] = last + part
        else:
            merged.append(part)
    return merged


@given(parts=_PARTS, names=st.dictionaries(_NAMES, st.integers(0, 2), max_size=4), algorithm=_ALGORITHMS)
def test_what_is_written_is_read(parts: list[Part], names: dict[str, int], algorithm: Algorithm) -> None:
    data, store = _write(parts, names, algorithm, 7)
    reader = SplitstreamReader(data, algorithm, 5)
    result = bytearray()
    expected = b"".join(_OBJECTS[part] if isinstance(part, int) else part for part in parts)
    assert reader.cat(result.extend, store.open) == len(expected) == reader.stream_size
    assert result == expected
    ids = [store.add(content) for content in _OBJECTS]
    assert reader.named_refs == {name: ids[place] for name, place in names.items()}
    assert list(reader.object_refs) == list(dict.fromkeys(ids[p] for p in parts if isinstance(p, int)))
    assert reader.find_irregularities() == []
    assert rewrite(data, store, algorithm) == data


@given(parts=_PARTS, cut=st.integers(1, 5000), is_declared=st.booleans())
def test_file_does_not_depend_on_how_data_was_cut(parts: list[Part], cut: int, is_declared: bool) -> None:  # noqa: FBT001 - a case
    whole, _ = _write(parts, {}, Algorithm.SHA256, 1 << 20)
    assert _write(parts, {}, Algorithm.SHA256, cut, is_declared=is_declared)[0] == whole


@given(parts=_PARTS, feed=st.integers(1, 100))
def test_reading_does_not_depend_on_how_much_is_unpacked_at_once(parts: list[Part], feed: int) -> None:
    data, store = _write(parts, {}, Algorithm.SHA256, 1 << 20)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(source_module, "_READ_BYTES", feed)
        patch.setattr(source_module, "_READ_BYTES", 3 * feed - 1)
        pieces: list[Part | ObjectID] = []
        for chunk in SplitstreamReader(data, Algorithm.SHA256).iter_chunks():
            if not isinstance(chunk, Inline):
                pieces.append(chunk.number)
            elif pieces and isinstance(last := pieces[-1], bytes):
                pieces[-1] = last + bytes(chunk.data)
            else:
                pieces.append(bytes(chunk.data))
    numbers: dict[int, int] = {}
    expected = [
        numbers.setdefault(part, len(numbers)) if isinstance(part, int) else part for part in _merge(parts)
    ]
    assert pieces == [part for part in expected if part != b""]
    assert store.open_files == 0


def _exhaust(data: bytes) -> None:
    """Do everything that can be done with a splitstream, and allow for its own error only."""
    try:
        reader = SplitstreamReader(data, Algorithm.SHA256)
        reader.find_irregularities()
        reader.check(lambda _: 6)
        reader.read_inline(1 << 20)
    except SplitstreamError:
        return


_SAMPLE, _ = _write([b"hello ", 1, b"inline " * 40, 2, 2], {"name": 1, "other": 0}, Algorithm.SHA256, 99)


@settings(max_examples=400)
@given(random=st.randoms(use_true_random=False), count=st.integers(1, 4))
def test_damaged_file_raises_its_own_error_only(random: Random, count: int) -> None:
    data = bytearray(_SAMPLE)
    for _ in range(count):
        data[random.randrange(len(data))] ^= 1 << random.randrange(8)
    cut = random.choice([len(data), random.randrange(len(data))])
    _exhaust(bytes(data[:cut]))


@settings(max_examples=200)
@given(place=st.integers(0, 9), value=st.integers(0, (1 << 64) - 1) | st.integers(0, len(_SAMPLE)))
@example(0, 1 << 60)
@example(9, (1 << 64) - 1)
def test_any_number_in_the_information_raises_its_own_error_only(place: int, value: int) -> None:
    start = 32 + 8 * place
    _exhaust(_SAMPLE[:start] + value.to_bytes(8, "little") + _SAMPLE[start + 8 :])


@settings(max_examples=200)
@given(stream=st.binary(max_size=60), names=st.binary(max_size=30), size=st.integers(0, 100))
@example(chunks(-(1 << 62)), b"", 100)
@example(chunks(-(1 << 63)), b"0:\0", 100)
@example(chunks(1 << 60), b"18446744073709551616:x\0", 100)
def test_anything_in_the_frames_raises_its_own_error_only(stream: bytes, names: bytes, size: int) -> None:
    refs = [bytes(32), b"x" * 32]
    _exhaust(build(frame(stream), refs=refs, stream_refs=refs, named_refs=frame(names), size=size))
    _exhaust(build(stream, refs=refs, stream_refs=refs, named_refs=names, size=size))


@given(data=st.binary(max_size=300))
def test_any_bytes_raise_their_own_error_only(data: bytes) -> None:
    with pytest.raises(SplitstreamError):
        SplitstreamReader(data, Algorithm.SHA256)
