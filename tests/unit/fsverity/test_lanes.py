"""Digests by vector instructions, against `hashlib`."""

from __future__ import annotations

import hashlib
import random
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from cfsctl.digest import Algorithm
from cfsctl.fsverity import lanes, merkle
from cfsctl.fsverity.lanes import BLOCK_SIZE, find_lanes, is_right, make_lanes

if TYPE_CHECKING:
    from collections.abc import Callable

_lanes = pytest.importorskip("cfsctl.fsverity._lanes", reason="built without a C compiler")

FUNCTIONS = {Algorithm.SHA256: hashlib.sha256, Algorithm.SHA512: hashlib.sha512}
SETS = [pytest.param(index, id=str(name)) for index, name in enumerate(_lanes.NAMES) if name is not None]
COUNTS = [0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33]


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("index", SETS)
@pytest.mark.parametrize("count", COUNTS)
def test_digests_are_those_of_hashlib(index: int, algorithm: Algorithm, count: int) -> None:
    data = random.Random(count).randbytes(count * BLOCK_SIZE)
    function = FUNCTIONS[algorithm]
    expected = [function(data[at : at + BLOCK_SIZE]).digest() for at in range(0, len(data), BLOCK_SIZE)]
    for form in (data, bytearray(data), memoryview(data)):
        assert _lanes.hash_blocks(index, algorithm.value, form) == b"".join(expected)


def test_data_need_not_be_aligned() -> None:
    data = random.Random(1).randbytes(4 * BLOCK_SIZE)
    for shift in range(1, 65):
        view = memoryview(bytes(shift) + data)[shift:]
        assert _lanes.hash_blocks(0 if _lanes.NAMES[0] else len(_lanes.NAMES) - 1, 2, view) == b"".join(
            [hashlib.sha512(data[at : at + BLOCK_SIZE]).digest() for at in range(0, len(data), BLOCK_SIZE)]
        )


@pytest.mark.parametrize(
    ("index", "algorithm", "size", "message"),
    [
        (len(_lanes.NAMES), 1, 4096, "instruction set"),
        (-1, 1, 4096, "instruction set"),
        (len(_lanes.NAMES) - 1, 0, 4096, "algorithm"),
        (len(_lanes.NAMES) - 1, 3, 4096, "algorithm"),
        (len(_lanes.NAMES) - 1, 1, 4095, "multiple of 4096"),
    ],
)
def test_wrong_arguments_are_refused(index: int, algorithm: int, size: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        _lanes.hash_blocks(index, algorithm, bytes(size))


def test_views_that_are_not_contiguous_are_refused() -> None:
    with pytest.raises(BufferError):
        _lanes.hash_blocks(len(_lanes.NAMES) - 1, 1, memoryview(bytes(8192))[::2])


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("index", SETS)
def test_files_have_the_digests_that_they_have_without_lanes(index: int, algorithm: Algorithm) -> None:
    """Random batches, with all sizes at which blocks and trees begin and end."""
    generator = random.Random(3)
    edges = [0, 1, 4095, 4096, 4097, 8191, 8192, 8193, 63 * 4096, 64 * 4096]
    plain = merkle._Suite(algorithm, FUNCTIONS[algorithm], None)
    for count in (0, 1, 2, 7, 8, 9, 17, 40):
        sizes = [generator.choice([*edges, generator.randrange(40_000)]) for _ in range(count)]
        contents = [generator.randbytes(size) for size in sizes]
        data = b"".join(content + bytes(-len(content) % BLOCK_SIZE) for content in contents)
        expected = [bytes(digest) for digest in plain.digest_files(memoryview(data), sizes)]
        assert _lanes.hash_files(index, algorithm.value, data, sizes) == b"".join(expected)


@pytest.mark.parametrize(
    ("size", "sizes", "error", "message"),
    [
        (4096, [4097], ValueError, "length"),
        (4096, [], ValueError, "length"),
        (0, [1], ValueError, "length"),
        (4095, [4095], ValueError, "length"),
        (65 * 4096, [64 * 4096 + 1], ValueError, "more blocks"),
        (4096, [1 << 64], OverflowError, "too big"),
        (4096, [-1], OverflowError, "negative"),
        (4096, ["1"], TypeError, "int"),
        (4096, (4096,), TypeError, "list"),
    ],
)
def test_wrong_files_are_refused(size: int, sizes: list[int], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        _lanes.hash_files(len(_lanes.NAMES) - 1, 2, bytes(size), sizes)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("index", SETS)
def test_self_test_accepts_the_extension(index: int, algorithm: Algorithm) -> None:
    assert is_right(make_lanes(_lanes, index, algorithm), algorithm)


@pytest.mark.parametrize("name", ["hash_blocks", "hash_files"])
@pytest.mark.parametrize("wrong_byte", [0, 31, 32, 7 * 64, -1])
def test_extension_that_computes_wrong_digests_is_not_used(
    name: str, wrong_byte: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hash_wrongly(index: int, *arguments: object) -> bytes:
        digests = bytearray(getattr(_lanes, name)(len(_lanes.NAMES) - 1, *arguments))
        assert index == 0
        digests[wrong_byte] ^= 1
        return bytes(digests)

    def hash_rightly(of: str) -> Callable[..., bytes]:
        return lambda _, *arguments: getattr(_lanes, of)(len(_lanes.NAMES) - 1, *arguments)

    functions = {each: hash_rightly(each) for each in ("hash_blocks", "hash_files")}
    broken = SimpleNamespace(NAMES=("avx512",), HAS_SHA256_INSTRUCTIONS=False, **functions)
    monkeypatch.setattr(lanes, "_load", lambda: cast("ModuleType", broken))
    assert find_lanes(Algorithm.SHA512) is not None
    setattr(broken, name, hash_wrongly)
    assert find_lanes(Algorithm.SHA512) is None


def test_without_the_extension_there_are_no_lanes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lanes, "_load", lambda: None)
    assert find_lanes(Algorithm.SHA256) is None


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize("index", SETS)
def test_fsverity_digests_are_the_same_with_lanes(index: int, algorithm: Algorithm) -> None:
    """Every number of blocks around the sizes at which lanes, buffers and tree levels begin and end."""
    function = FUNCTIONS[algorithm]
    plain = merkle._Suite(algorithm, function, None)
    with_lanes = merkle._Suite(algorithm, function, make_lanes(_lanes, index, algorithm))
    data = random.Random(2).randbytes(70 * BLOCK_SIZE)
    for count in range(71):
        view = memoryview(data)[: count * BLOCK_SIZE]
        assert with_lanes.hash_blocks(view, len(view)) == plain.hash_blocks(view, len(view))
