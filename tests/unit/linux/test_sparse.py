"""Holes found and made."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.linux.sparse import (
    BLOCK_BYTES,
    copy_file,
    iter_holes,
    iter_runs,
    may_have_holes,
    write_hole,
    write_sparse,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

B = BLOCK_BYTES
PIECES = st.lists(
    st.tuples(
        st.sampled_from([b"\0", b"x", b"\0" * 4095 + b"x", b"x" + b"\0" * 4095]), st.integers(1, 3 * B)
    ),
    max_size=6,
).map(lambda parts: b"".join((unit * size)[:size] for unit, size in parts))


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield fd
    os.close(fd)


@given(PIECES)
def test_runs_are_all_of_the_data(data: bytes) -> None:
    runs = list(iter_runs(memoryview(data)))
    assert (
        b"".join(bytes(end - start) if is_zero else data[start:end] for is_zero, start, end in runs) == data
    )
    assert all(end - start >= B and start % B == 0 for is_zero, start, end in runs if is_zero)
    assert all(data[at : at + B] != bytes(B) for is_zero, start, end in runs if not is_zero
               for at in range(start, end - B + 1, B))  # fmt: skip


@given(pieces=st.lists(PIECES, max_size=4))
def test_what_is_written_is_read(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    path = tmp_path_factory.getbasetemp() / "sparse"
    with path.open("wb") as file:
        for piece in pieces:
            write_sparse(file.fileno(), piece)
    assert path.read_bytes() == b"".join(pieces)


def test_zeros_take_no_space(fd: int) -> None:
    write_sparse(fd, b"x" * B + bytes(1 << 20))
    write_sparse(fd, bytes(1 << 20))
    status = os.fstat(fd)
    assert status.st_size == B + (2 << 20)
    if not may_have_holes(status):
        pytest.skip("this file system has no holes")
    assert list(iter_holes(fd, status.st_size)) == [(B, status.st_size)]


def test_holes(fd: int) -> None:
    os.ftruncate(fd, 20 * B + 7)
    os.pwrite(fd, b"x", 3 * B + 5)
    os.pwrite(fd, b"x", 9 * B)
    if not may_have_holes(os.fstat(fd)):
        pytest.skip("this file system has no holes")
    end = 20 * B + 7
    assert list(iter_holes(fd, end)) == [(0, 3 * B), (4 * B, 9 * B), (10 * B, end)]
    assert list(iter_holes(fd, end, 4 * B)) == [(4 * B, 9 * B), (10 * B, end)]
    assert list(iter_holes(fd, 12 * B)) == [(0, 3 * B), (4 * B, 9 * B), (10 * B, 12 * B)]


def test_a_file_that_has_become_shorter_has_no_more_holes(fd: int) -> None:
    os.ftruncate(fd, B)
    assert list(iter_holes(fd, 10 * B)) in ([(0, 10 * B)], [])


def test_what_has_no_holes() -> None:
    read, write = os.pipe()
    assert list(iter_holes(read, 10 * B)) == []
    assert not may_have_holes(os.fstat(read))
    os.close(read)
    os.close(write)


def test_a_hole_that_no_file_can_have(fd: int) -> None:
    with pytest.raises(OSError, match=r"large|Invalid"):
        write_hole(fd, (1 << 63) - 1)


def test_a_copy(fd: int) -> None:
    os.ftruncate(fd, 40 * B + 9)
    os.pwrite(fd, b"abc" * B, 30 * B)
    taken: list[bytes] = []
    copy_file(fd, taken.append, lambda size: taken.append(bytes(size)))
    os.lseek(fd, 0, os.SEEK_SET)
    assert b"".join(taken) == os.read(fd, 50 * B)
