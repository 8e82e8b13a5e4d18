"""Damaged deltas raise the errors that are documented, whatever is damaged, and never make a wrong object."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError
from cfsctl.ostree.content.target import inline_limit
from cfsctl.ostree.delta.part import open_part
from cfsctl.ostree.delta.patch import apply_patch
from cfsctl.ostree.delta.program import PartProgram
from cfsctl.ostree.delta.run import CommitFiles
from cfsctl.ostree.delta.superblock import parse_superblock
from cfsctl.ostree.delta.views import ByteView, Scratch
from cfsctl.ostree.objects import ObjectKind, parse_zlib_file_header
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

DELTAS = Path(__file__).parents[1] / "vectors/ostree/hostile/deltas"
GOOD = (DELTAS / "good-uncompressed").read_bytes()
SUPERBLOCK = parse_superblock(ByteView.of_bytes(GOOD))
INLINE = SUPERBLOCK.inline[0]
PART = INLINE.read(0, INLINE.size)

CHANGES = st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), min_size=1, max_size=4)


def change(data: bytes, changes: list[tuple[int, int]]) -> bytes:
    changed = bytearray(data)
    for place, value in changes:
        changed[place % len(changed)] = value
    return bytes(changed)


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Repository]:
    with make_repository(tmp_path_factory.mktemp("delta") / "store", Algorithm.SHA256) as repository:
        yield repository


@given(CHANGES, st.integers(0, len(GOOD)))
def test_a_damaged_superblock(changes: list[tuple[int, int]], length: int) -> None:
    for data in (change(GOOD, changes), GOOD[:length], change(GOOD, changes)[:length]):
        try:
            superblock = parse_superblock(ByteView.of_bytes(data))
        except CfsError:
            continue
        assert hashlib.sha256(superblock.commit_data).digest() == superblock.to_checksum


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow], deadline=None)
@given(CHANGES, st.integers(1, len(PART)))
def test_a_damaged_part(repository: Repository, changes: list[tuple[int, int]], length: int) -> None:
    """The digest is made to fit, so that tables and program are reached."""
    entries = {checksum: kind for kind, checksum in SUPERBLOCK.parts[0].objects}
    for data in (b"\0" + change(PART[1:], changes), PART[:length]):
        part = SUPERBLOCK.parts[0]._replace(checksum=hashlib.sha256(data).digest())
        scratch = Scratch(repository.objects)
        try:
            content = open_part(ByteView.of_bytes(data), part, scratch)
            sources = CommitFiles(None, repository.objects)
            program = PartProgram(content, part.objects, 1 << 20, sources, repository.objects)
        except CfsError:
            continue
        try:
            program.run()
        except CfsError:
            pass
        else:
            assert len(program.produced) == len(part.objects)
        for checksum, stored, object_id in program.produced:
            if entries[checksum] is not ObjectKind.FILE:
                assert hashlib.sha256(stored).digest() == checksum
                continue
            header = parse_zlib_file_header(stored)
            body = stored[header.length_bytes :]
            if object_id is not None:
                body += repository.objects.read(object_id)
            assert hashlib.sha256(header.regular_header + body).digest() == checksum
            assert len(body) == header.size_bytes
            assert (object_id is None) == (header.size_bytes <= inline_limit(Algorithm.SHA256))


@given(st.binary(max_size=200), st.binary(max_size=50), st.integers(0, 300))
def test_a_patch_makes_its_size_or_is_refused(patch: bytes, old: bytes, size: int) -> None:
    pieces: list[bytes] = []
    try:
        apply_patch(ByteView.of_bytes(patch), ByteView.of_bytes(old), size, pieces.append)
    except CfsError:
        assert sum(map(len, pieces)) <= size
    else:
        assert sum(map(len, pieces)) == size
