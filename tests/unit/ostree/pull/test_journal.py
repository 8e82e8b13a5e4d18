"""Journals of pulls: what is written comes back, what is torn does not."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm, Checksum, ObjectID
from cfsctl.ostree.pull.journal import PullJournal
from cfsctl.repository.gc.collect import collect_garbage
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.repository import Repository

COMMIT = Checksum(b"c" * 32)
RECORDS: list[tuple[Checksum, bytes, ObjectID | None]] = [
    (
        Checksum(hashlib.sha256(bytes([number])).digest()),
        bytes([number]) * number,
        ObjectID(bytes([number]) * 64) if number % 2 else None,
    )
    for number in range(1, 20)
]


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as repository:
        yield repository


def file_of(repository: Repository) -> Path:
    return Path(repository.path) / f".cfsctl-pull-{COMMIT.hex()}"


def write(repository: Repository) -> bytes:
    journal = PullJournal(repository, COMMIT)
    for record in RECORDS:
        journal.append(*record)
    journal.close()
    return file_of(repository).read_bytes()


def read(repository: Repository) -> list[tuple[Checksum, bytes, ObjectID | None]]:
    journal = PullJournal(repository, COMMIT)
    journal.close()
    return [(checksum, *entry) for checksum, entry in journal.objects.items()]


def test_what_was_written_is_there(repository: Repository) -> None:
    write(repository)
    journal = PullJournal(repository, COMMIT)
    assert [journal.find(checksum) for checksum, _, _ in RECORDS] == [record[1:] for record in RECORDS]
    assert journal.find(COMMIT) is None
    journal.remove()
    assert not file_of(repository).exists()


def test_every_length_is_read_up_to_its_last_whole_record(repository: Repository) -> None:
    data = write(repository)
    found = []
    for length in range(0, len(data), 7):
        file_of(repository).write_bytes(data[:length])
        records = read(repository)
        assert records == RECORDS[: len(records)]
        found.append(len(records))
    assert found == sorted(found)
    assert found[-1] >= len(RECORDS) - 1


def test_writing_goes_on_after_what_is_whole(repository: Repository) -> None:
    data = write(repository)
    file_of(repository).write_bytes(data[:-3])
    journal = PullJournal(repository, COMMIT)
    journal.append(*RECORDS[-1])
    journal.close()
    assert file_of(repository).read_bytes() == data


def test_a_flipped_bit_never_brings_a_wrong_record(repository: Repository) -> None:
    data = bytearray(write(repository))
    for place in range(len(data)):
        data[place] ^= 4
        file_of(repository).write_bytes(data)
        records = read(repository)
        assert records == RECORDS[: len(records)]
        assert len(records) < len(RECORDS)
        data[place] ^= 4


def test_a_journal_of_another_hash_is_not_read(tmp_path: Path, repository: Repository) -> None:
    write(repository)
    with make_repository(tmp_path / "other", Algorithm.SHA256) as other:
        file_of(other).write_bytes(file_of(repository).read_bytes())
        assert read(other) == []


def test_a_link_is_not_followed(tmp_path: Path, repository: Repository) -> None:
    (tmp_path / "outside").write_bytes(write(repository))
    file_of(repository).unlink()
    file_of(repository).symlink_to(tmp_path / "outside")
    before = (tmp_path / "outside").read_bytes()
    journal = PullJournal(repository, COMMIT)
    assert journal.objects == {}
    journal.append(*RECORDS[0])
    journal.close()
    assert (tmp_path / "outside").read_bytes() == before
    assert not file_of(repository).is_symlink()


def give_away(path: Path) -> None:
    os.chown(path, 65534, 65534)


def let_others_write(path: Path) -> None:
    path.chmod(0o666)


def let_the_group_write(path: Path) -> None:
    path.chmod(0o620)


def name_twice(path: Path) -> None:
    os.link(path, path.with_name("second"))


def make_a_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path, 0o600)


STRANGERS = [give_away, let_others_write, let_the_group_write, name_twice, make_a_fifo]


@pytest.mark.parametrize("make_strange", STRANGERS)
def test_one_that_somebody_else_can_have_written_is_replaced(
    repository: Repository, make_strange: Callable[[Path], None]
) -> None:
    if make_strange is give_away and os.geteuid() != 0:
        pytest.skip("needs root to give a file away")
    write(repository)
    make_strange(file_of(repository))
    journal = PullJournal(repository, COMMIT)
    assert journal.objects == {}
    assert journal.is_proven
    journal.append(*RECORDS[0])
    journal.close()
    status = file_of(repository).stat()
    assert (status.st_uid, status.st_mode & 0o777, status.st_nlink) == (os.geteuid(), 0o600, 1)
    assert read(repository) == RECORDS[:1]


def test_where_others_can_write_nothing_is_believed_unproven(repository: Repository) -> None:
    """They can give the journal's name to any file of this user's, such as an object of the store."""
    write(repository)
    Path(repository.path).chmod(0o777)
    journal = PullJournal(repository, COMMIT)
    assert not journal.is_proven
    assert len(journal.objects) == len(RECORDS)
    journal.close()


def test_a_collection_removes_it(repository: Repository) -> None:
    write(repository)
    collect_garbage(repository, dry_run=True)
    assert file_of(repository).exists()
    assert collect_garbage(repository).temporaries_removed == 1
    assert not file_of(repository).exists()


def test_only_the_owner_reads_it(repository: Repository) -> None:
    old = os.umask(0)
    try:
        write(repository)
    finally:
        os.umask(old)
    assert file_of(repository).stat().st_mode & 0o777 == 0o600


def test_large_records_are_read_when_they_are_needed(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfsctl.ostree.pull.journal._KEPT_BYTES", 100)
    monkeypatch.setattr("cfsctl.ostree.pull.journal._WINDOW_BYTES", 256)
    records = [
        (Checksum(bytes((n,)) * 32), bytes((n,)) * size, None) for n, size in enumerate((10, 3000, 50, 999))
    ]
    journal = PullJournal(repository, COMMIT)
    journal.extend(records)
    journal.close()
    journal = PullJournal(repository, COMMIT)
    assert [(checksum, *entry) for checksum, entry in journal.objects.items()] == records
    journal.close()
    path = file_of(repository)
    damaged = bytearray(path.read_bytes())
    damaged[damaged.index(bytes((3,)) * 999) + 700] ^= 1
    path.write_bytes(damaged)
    journal = PullJournal(repository, COMMIT)
    assert list(journal.objects) == [record[0] for record in records[:3]]
    journal.close()


def test_another_pull_of_the_commit_makes_it_first(
    repository: Repository, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What both write down is found later; neither fails."""
    others: list[PullJournal] = []
    called = os.open

    def open_late(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if str(path) == file_of(repository).name and not flags & os.O_CREAT and not others:
            monkeypatch.setattr(os, "open", called)
            others.append(PullJournal(repository, COMMIT))
            raise FileNotFoundError(path)
        return called(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", open_late)
    journal = PullJournal(repository, COMMIT)
    journal.append(*RECORDS[0])
    others[0].append(*RECORDS[1])
    for one in (journal, *others):
        one.close()
    assert read(repository) == [RECORDS[0], RECORDS[1]]
