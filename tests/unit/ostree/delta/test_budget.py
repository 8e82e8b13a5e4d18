"""What a part may make is bounded by what it is made of."""

from __future__ import annotations

import hashlib
import stat
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum
from cfsctl.ostree.delta.budget import (
    FREE_BYTES,
    MIN_FREE_BYTES,
    PLAIN_EXPANSION,
    SOURCE_USES,
    NoRoomError,
    check_room,
    make_budget,
)
from cfsctl.ostree.delta.format import PART_SLACK_BYTES, DeltaError
from cfsctl.ostree.delta.part import PartContent
from cfsctl.ostree.delta.program import PartProgram
from cfsctl.ostree.delta.run import CommitFiles
from cfsctl.ostree.delta.superblock import Superblock, parse_superblock
from cfsctl.ostree.delta.views import ByteView
from cfsctl.ostree.objects import ObjectKind, format_regular_header
from tests.support.repositories import make_repository
from tests.support.superblocks import make_superblock

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

MODE = stat.S_IFREG | 0o644
BLOCK = 1 << 16
NAME = b"f" * 32


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "repository") as repository:
        yield repository


def varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def superblock(content_bytes: int, parts: int = 1) -> Superblock:
    part = (b"p" * 32, 100, content_bytes, [(1, NAME)])
    entries = [part] + [(b"p" * 32, 100, 0, [(1, b"%032d" % n)]) for n in range(1, parts)]
    return parse_superblock(ByteView.of_bytes(make_superblock(parts=entries)))


def repeat(repository: Repository, times: int, free_bytes: int) -> PartProgram:
    """Return a program that writes one payload into one file so many times."""
    size = BLOCK * times
    content = bytes(size)
    checksum = Checksum(hashlib.sha256(format_regular_header(0, 0, MODE, b"", ()) + content).digest())
    program = b"o\0\0" + varint(size) + (b"w" + varint(BLOCK) + varint(0)) * times + b"c"
    part = PartContent([(0, 0, MODE)], [()], ByteView.of_bytes(bytes(BLOCK)), program)
    sources = CommitFiles(None, repository.objects)
    entries = [(ObjectKind.FILE, checksum)]
    return PartProgram(part, entries, size, sources, repository.objects, free_bytes=free_bytes)


def test_a_payload_is_not_written_over_and_over(repository: Repository) -> None:
    with pytest.raises(DeltaError, match="content written at most 2 times from the part"):
        repeat(repository, 200, 0).run()
    assert not [path for path in (Path(repository.path) / "objects").rglob("*") if path.is_file()]


def test_some_repetition_is_allowed(repository: Repository) -> None:
    program = repeat(repository, 20, 18 * BLOCK)
    program.run()
    assert len(program.produced) == 1


def test_a_part_is_decompressed_to_what_its_size_allows() -> None:
    budget = make_budget(superblock(1 << 40), None, 0, 1000)
    assert budget.plain_bytes == PLAIN_EXPANSION * 1000 + FREE_BYTES
    assert make_budget(superblock(1000), None, 0, 1 << 30).plain_bytes == 2000 + PART_SLACK_BYTES


def test_parts_share_what_is_free() -> None:
    shares = [make_budget(superblock(1 << 40, 200), None, 0, 1000).free_bytes for _ in range(200)]
    assert sum(shares) <= FREE_BYTES
    assert make_budget(superblock(1, 2), None, 0, 1).free_bytes >= MIN_FREE_BYTES


def test_what_the_commit_announces_counts() -> None:
    sizes = {Checksum(NAME): (10, 5000)}
    assert make_budget(superblock(1 << 40), sizes, 0, 100).announced_bytes == 5000 + PART_SLACK_BYTES
    other = {Checksum(b"x" * 32): (10, 5000)}
    assert make_budget(superblock(1 << 40), other, 0, 100).announced_bytes > 1 << 40


def test_more_than_there_is_room_for_is_refused_at_once() -> None:
    check_room(superblock(1000), [0], 1000)
    with pytest.raises(NoRoomError, match="announce 1001 bytes of content, 1000 are free"):
        check_room(superblock(1001), [0], 1000)
    check_room(superblock(1001), [], 1000)  # parts that are not needed do not count


class OneSource:
    """The files of an old commit that has one file."""

    @contextmanager
    def open(self, checksum: Checksum) -> Iterator[ByteView]:
        assert checksum == NAME
        yield ByteView.of_bytes(bytes(BLOCK))


@pytest.mark.parametrize(("times", "is_refused"), [(SOURCE_USES, False), (SOURCE_USES + 3, True)])
def test_sources_account_for_what_is_copied_from_them(
    repository: Repository, times: int, *, is_refused: bool
) -> None:
    content = bytes(BLOCK * times)
    checksum = Checksum(hashlib.sha256(format_regular_header(0, 0, MODE, b"", ()) + content).digest())
    copy = b"r" + varint(0) + b"w" + varint(BLOCK) + varint(0)
    program = b"o\0\0" + varint(len(content)) + copy * times + b"c"
    part = PartContent([(0, 0, MODE)], [()], ByteView.of_bytes(NAME), program)
    entries = [(ObjectKind.FILE, checksum)]
    run = PartProgram(part, entries, len(content), OneSource(), repository.objects, free_bytes=0)
    if is_refused:
        with pytest.raises(DeltaError, match="from files of the old commit"):
            run.run()
    else:
        run.run()
        assert len(run.produced) == 1
