"""fs-verity digests against known values, at every size where the tree changes its shape."""

from __future__ import annotations

import os
import tracemalloc
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, ObjectID
from cfsctl.fsverity.merkle import (
    READ_SIZE,
    FileDigester,
    Hasher,
    SmallFiles,
    compute_digest,
    compute_file_digest,
)

if TYPE_CHECKING:
    from pathlib import Path

# Checked with `fsverity digest` of fsverity-utils and with an independent implementation; SHA-512
# digests by their first and last eight bytes.
VECTORS = [
    (
        b"",
        "3d248ca542a24fc62d1c43b916eae5016878e2533c88238480b26128a1f1af95",
        ("ccf9e5aea1c2a64e", "bed66f9e784e5abf"),
    ),
    (
        b"hello",
        "555b589c26ee43b7a2510e6c67ced9fb3190b6da6e9e683984551f5d77a763de",
        ("f40c9f595539791d", "cdf5508da1cef244"),
    ),
    (
        b"hello world",
        "1e2eaa4202d750a41174ee454970b92c1bc2f925b1e35076d8c7d5f56362ba64",
        ("18430270729d162d", "e5a0c51a6f570409"),
    ),
    (
        b"A" * 100,
        "e40425eaca55b3aca9994575b03b1585ff756c4684395fa144ee2642aeaf1d49",
        ("cd303be40b2b7c01", "1361a4c6efcf610c"),
    ),
    (
        bytes(4095),
        "5372beb83c78537c8970c8361e3254119fafdf1763854ecd57d3f0fe2da7c719",
        ("e2397c3e051f7ab0", "85e804d5fca5dc27"),
    ),
    (
        bytes(4096),
        "babc284ee4ffe7f449377fbf6692715b43aec7bc39c094a95878904d34bac97e",
        ("928922686c4caf32", "d324ac1d53664e61"),
    ),
    (
        bytes(4097),
        "093756e4ea9683329106d4a16982682ed182c14bf076463a9e7f97305cbac743",
        ("4339f5da3788e60f", "73c56480b15cedf1"),
    ),
    (
        bytes(64 * 4096),
        "27fad54e0cf60e1df233a3ecaeffbe53e4d96dc86bb09b0ef9d730c00dc93522",
        ("0fab0d1193794470", "da3f8b676ef3c5a1"),
    ),
    (
        bytes(64 * 4096 + 1),
        "164d358d7b02095f335083aac4540c713258b57c578c9ee71880aea531ec27ce",
        ("66570da2a4960575", "30e6b0512d5b1be8"),
    ),
    (
        bytes(128 * 4096),
        "2d15bd7832895de85aa3d5bdfb57251e27bbec75ff467408340ab3eba858a2e1",
        ("80e3a9dbfb94da75", "fb134b506d910123"),
    ),
    (
        bytes(128 * 4096 + 1),
        "e4143a5705610b7ad2eb85482cfc033c7062a89b9faf9118603f592d53fd10e0",
        ("7d26d3e731675b1e", "e170d5ec9c350584"),
    ),
    (
        bytes(16 * 1024 * 1024 + 1),
        "0fd4479f81002b4ae3f62111b619a3309dd8351a0adf8f968b1cf5d35ecb94e5",
        ("3103eb04b7a15418", "88c436100a15ab04"),
    ),
]
IDS = [str(len(data)) for data, _, _ in VECTORS]


def _matches(algorithm: Algorithm, digest: bytes, sha256: str, sha512: tuple[str, str]) -> bool:
    if algorithm is Algorithm.SHA256:
        return digest.hex() == sha256
    return len(digest) == 64 and (digest[:8].hex(), digest[-8:].hex()) == sha512


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(("data", "sha256", "sha512"), VECTORS, ids=IDS)
def test_known_digests(
    algorithm: Algorithm, data: bytes, sha256: str, sha512: tuple[str, str], tmp_path: Path
) -> None:
    assert _matches(algorithm, compute_digest(data, algorithm), sha256, sha512)
    (tmp_path / "file").write_bytes(data)
    with (tmp_path / "file").open("rb") as file:
        digest, size = compute_file_digest(file.fileno(), algorithm)
    assert size == len(data)
    assert _matches(algorithm, digest, sha256, sha512)


@pytest.mark.parametrize("algorithm", Algorithm)
@pytest.mark.parametrize(
    "size",
    [
        0,
        1,
        4096,
        4097,
        READ_SIZE - 1,
        READ_SIZE,
        READ_SIZE + 1,
        64 * 4096,
        128 * 4096 + 1,
        64 * 64 * 4096 + 5,
    ],
)
@pytest.mark.parametrize("piece", [4093, 4096, 70_001, 1 << 30])
def test_pieces_of_any_size_give_the_same_digest(algorithm: Algorithm, size: int, piece: int) -> None:
    data = os.urandom(size)
    hasher = Hasher(algorithm)
    for start in range(0, size, piece):
        hasher.update(data[start : start + piece])
    assert hasher.size == size
    assert hasher.digest() == compute_digest(data, algorithm)


def test_buffers_of_all_kinds_are_taken() -> None:
    data = os.urandom(9000)
    expected = compute_digest(data, Algorithm.SHA256)
    for kind in (bytearray, memoryview):
        assert compute_digest(kind(data), Algorithm.SHA256) == expected
        hasher = Hasher(Algorithm.SHA256)
        hasher.update(kind(data))
        assert hasher.digest() == expected


def test_digester_starts_anew_for_each_file_wherever_its_position(tmp_path: Path) -> None:
    digester = FileDigester(Algorithm.SHA512)
    for size in (100_000, 10, 0, 65_536, 4096):
        data = os.urandom(size)
        (tmp_path / "file").write_bytes(data)
        with (tmp_path / "file").open("rb") as file:
            file.seek(size // 2)
            assert digester.compute(file.fileno()) == (compute_digest(data, Algorithm.SHA512), size)
            assert file.tell() == size // 2


@pytest.mark.parametrize("step", [1000, 4096, 60_000])
def test_short_reads_are_continued(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    data = os.urandom(2 * READ_SIZE + 5000)

    def read_some(_: int, buffers: list[memoryview], position: int) -> int:
        piece = data[position : position + min(step, len(buffers[0]))]
        buffers[0][: len(piece)] = piece
        return len(piece)

    monkeypatch.setattr(os, "preadv", read_some)
    with open(os.devnull, "rb") as file:
        found = compute_file_digest(file.fileno(), Algorithm.SHA256)
    assert found == (compute_digest(data, Algorithm.SHA256), len(data))


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    with (tmp_path / "large").open("wb+") as file:
        file.write(b"x" * (16 << 20))
        file.flush()
        tracemalloc.start()
        try:
            compute_file_digest(file.fileno(), Algorithm.SHA512)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert peak < 512 << 10


LAYOUTS = [
    [(0, 1)],
    [(1, 0)],
    [(0, 4095)],
    [(0, 65536)],
    [(0, 65537)],
    [(0, 128 * 4096)],
    [(0, 64 * 4096 + 1)],
    [(0, 3 << 20)],
    [(0, 17_000_001)],
    [(5000, 0), (0, 2 << 20), (1, 0)],
    [(0, 2 << 20), (4096, 0), (0, 2 << 20)],
    [(100_000, 0), (0, 999_999), (7, 0), (0, 600_001)],
]
"""Bytes of data and of zeros, in turn."""


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("algorithm", Algorithm)
def test_zeros_that_are_not_read(layout: list[tuple[int, int]], algorithm: Algorithm, tmp_path: Path) -> None:
    dense, quick = Hasher(algorithm), Hasher(algorithm)
    path = tmp_path / "sparse"
    with path.open("wb+") as file:
        for data, zeros in layout:
            file.write(b"x" * data)
            file.truncate(file.seek(zeros, os.SEEK_CUR))
            quick.update(b"x" * data)
            quick.update_zeros(zeros)
            dense.update(b"x" * data)
            dense.update(bytes(zeros))
        size = file.tell()
        file.flush()
        file.seek(3)
        expected = dense.digest()
        assert quick.digest() == expected
        assert quick.size == size
        assert compute_file_digest(file.fileno(), algorithm) == (expected, size)
        assert file.tell() == 3


def test_holes_around_a_little_data(tmp_path: Path) -> None:
    """Against reading everything, at many places of the data."""
    path = tmp_path / "sparse"
    for place in range(0, 2_000_000, 131_001):
        with path.open("wb+") as file:
            file.truncate(2_000_001)
            os.pwrite(file.fileno(), b"y" * 5000, place)
            found = compute_file_digest(file.fileno(), Algorithm.SHA256)
        assert found == (compute_digest(path.read_bytes(), Algorithm.SHA256), 2_000_001)


@pytest.mark.parametrize("algorithm", Algorithm)
def test_a_terabyte_of_zeros_takes_no_time(algorithm: Algorithm) -> None:
    first, second = Hasher(algorithm), Hasher(algorithm)
    first.update_zeros(1 << 40)
    for _ in range(1 << 10):
        second.update_zeros(1 << 30)
    assert first.digest() == second.digest()
    assert first.size == 1 << 40


@pytest.mark.parametrize("algorithm", Algorithm)
def test_small_files_together_have_the_digests_that_they_have_alone(
    algorithm: Algorithm, tmp_path: Path
) -> None:
    small, digester = SmallFiles(algorithm), FileDigester(algorithm)
    sizes = [0, 1, 4097, 4095, 4096, 0, 100, READ_SIZE, 8192, 12_289, 20_000, READ_SIZE - 1]
    for size_is_known in (False, True):
        expected: list[ObjectID] = []
        contents: list[bytes] = []
        for size in [*sizes, READ_SIZE + 1]:
            if small.is_full or size > READ_SIZE:
                assert [bytes(content) for content in small.contents()] == contents
                assert small.sizes == [len(content) for content in contents]
                assert small.finish() == expected
                assert small.sizes == []
                expected, contents = [], []
            data = os.urandom(size)
            (tmp_path / "file").write_bytes(data)
            with (tmp_path / "file").open("rb") as stream:
                limit = min(size, READ_SIZE) if size_is_known else READ_SIZE
                assert (small.take(stream.fileno(), limit) <= limit) is (size <= READ_SIZE)
                if size <= READ_SIZE:
                    expected.append(digester.compute(stream.fileno())[0])
                    contents.append(data)
        small.add(b"more")
        assert small.finish() == [compute_digest(b"more", algorithm)]


def test_file_that_has_grown_is_not_taken(tmp_path: Path) -> None:
    small = SmallFiles(Algorithm.SHA256)
    (tmp_path / "file").write_bytes(b"grown")
    with (tmp_path / "file").open("rb") as stream:
        assert small.take(stream.fileno(), 4) == 5
    assert small.finish() == []


def test_many_files_without_data_are_full_at_some_point() -> None:
    small = SmallFiles(Algorithm.SHA256)
    while not small.is_full:
        small.add(b"")
    count = len(small.sizes)
    assert small.finish() == [compute_digest(b"", Algorithm.SHA256)] * count
    assert not small.is_full
