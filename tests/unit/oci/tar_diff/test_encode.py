"""Patches that are made: applied they give the same bytes again, and what files have in common is copied."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.oci.tar_diff.blocks import (
    MAX_BLOCK_BYTES,
    MIN_BLOCK_BYTES,
    BlockMatcher,
    count_equal,
    iter_blocks,
)
from cfsctl.oci.tar_diff.decode import OpenedFile, TarDiffDecoder
from cfsctl.oci.tar_diff.encode import TarDiffEncoder, compress_with_prefix

RANDOM = random.Random(5)
OLD = RANDOM.randbytes(400_000)
FILES = {b"usr/old": OLD, b"usr/other": bytes(range(256)) * 100}


class Files:
    """The files that patches start from."""

    def open(self, path: bytes, /) -> OpenedFile:
        return OpenedFile(FILES[path])


def apply(patch: bytes) -> bytes:
    decoder = TarDiffDecoder(Files())
    found = b"".join(decoder.decode(patch))
    decoder.finish()
    return found


class Patch:
    """A patch in the making."""

    def __init__(self) -> None:
        self.pieces: list[bytes] = []
        self.encoder = TarDiffEncoder(self.pieces.append)

    def finish(self) -> bytes:
        return self.encoder.finish() + b"".join(self.pieces)


def test_copies_in_any_order() -> None:
    patch = Patch()
    patch.encoder.data(b"start")
    for path, offset, size in (
        (b"usr/old", 0, 100),
        (b"usr/old", 100, 50),
        (b"usr/other", 7, 20),
        (b"usr/old", 9, 10),
        (b"usr/old", 5, 3),
    ):
        patch.encoder.copy(path, offset, size)
    patch.encoder.data(b"end")
    found = patch.finish()
    assert found[:6] == b"tardf1"
    assert apply(found) == b"start" + OLD[:150] + FILES[b"usr/other"][7:27] + OLD[9:19] + OLD[5:8] + b"end"


def test_a_copy_after_a_frame_of_the_same_file() -> None:
    new = OLD[1000:200_000] + b"new" + OLD[200_000:]
    frame = compress_with_prefix(new, OLD)
    patch = Patch()
    patch.encoder.frame(b"usr/old", frame, len(OLD))
    patch.encoder.copy(b"usr/old", 5, 10)
    found = patch.finish()
    assert found[:6] == b"tardf2"
    assert len(found) < 1000
    assert apply(found) == new + OLD[5:15]


@given(st.lists(st.tuples(st.booleans(), st.integers(0, len(OLD)), st.integers(0, 70_000)), max_size=12))
def test_any_operations_come_back(steps: list[tuple[bool, int, int]]) -> None:
    patch = Patch()
    wanted = b""
    for is_copy, offset, size in steps:
        part = OLD[offset : offset + size]
        wanted += part
        if is_copy:
            patch.encoder.copy(b"usr/old", offset, len(part))
        else:
            patch.encoder.data(part)
    assert apply(patch.finish()) == wanted


def match(new: bytes, step: int = 1 << 16) -> tuple[bytes, int]:
    """Return what the operations give, and how many bytes of it are not from the old file."""
    found, literal = bytearray(), 0

    def copy(offset: int, size: int) -> None:
        nonlocal found
        assert size > 0
        found += OLD[offset : offset + size]

    def data(piece: bytes) -> None:
        nonlocal found, literal
        found += piece
        literal += len(piece)

    matcher = BlockMatcher(OpenedFile(OLD), copy, data)
    matcher.run(new[start : start + step] for start in range(0, len(new), step))
    return bytes(found), literal


@pytest.mark.parametrize(
    ("new", "most"),
    [
        (OLD, 0),
        (OLD + OLD, 0),
        (b"", 0),
        (b"short", 5),
        (OLD[100:], 0),
        (OLD[:200_000] + b"inserted" + OLD[200_000:], 8),
        (OLD[:200_000] + OLD[200_100:], 0),
        (OLD[300_000:] + OLD[:300_000], 0),
        (RANDOM.randbytes(3 << 20), 3 << 20),
        (bytes(500_000), 500_000),
    ],
    ids=["same", "twice", "empty", "short", "cut", "inserted", "removed", "moved", "foreign", "zeros"],
)
def test_what_files_have_in_common_is_copied(new: bytes, most: int) -> None:
    found, literal = match(new)
    assert found == new
    assert literal <= most


@given(
    st.lists(st.tuples(st.integers(0, len(OLD)), st.integers(0, 40_000), st.binary(max_size=9)), max_size=6)
)
def test_any_mixture_comes_back(parts: list[tuple[int, int, bytes]]) -> None:
    new = b"".join(OLD[start : start + size] + more for start, size, more in parts)
    assert match(new, 9973)[0] == new


@given(st.binary(max_size=300_000), st.integers(1, 100_000))
def test_blocks_do_not_depend_on_the_pieces(data: bytes, step: int) -> None:
    data = data + OLD[:step] + bytes(step)
    whole = list(iter_blocks([data]))
    assert b"".join(whole) == data
    assert all(len(block) <= MAX_BLOCK_BYTES for block in whole)
    assert all(len(block) >= MIN_BLOCK_BYTES for block in whole[:-1])
    assert list(iter_blocks(data[start : start + step] for start in range(0, len(data), step))) == whole


@given(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=40))
def test_equal_starts(start: bytes, first: bytes, second: bytes) -> None:
    found = count_equal(start + first, start + second)
    assert (start + first)[:found] == (start + second)[:found]
    assert found >= len(start)
    assert (start + first)[found : found + 1] != (start + second)[
        found : found + 1
    ] or start + first == start + second
