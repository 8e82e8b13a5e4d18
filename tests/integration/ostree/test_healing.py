"""A pull of what is here already heals what is damaged, and reads nothing without need."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.fsverity.merkle import compute_file_digest
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.store.refs import open_commit
from cfsctl.progress import Done, Started, Unit, silent
from cfsctl.repository import Repository
from cfsctl.repository.check.fsck import check_repository
from cfsctl.repository.objects.reader import ObjectState, to_doubtful
from cfsctl.repository.objects.verified import VERIFIED_NAME
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, object_file

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Event, Reporter

FILES = 30
FILES_IN_USR = {f"f{number}": f"file {number} ".encode() * 100 for number in range(FILES)}


@pytest.fixture
def fake() -> FakeOstreeRepository:
    repository = FakeOstreeRepository()
    repository.commit(
        {"usr": {f"f{number}": f"file {number} ".encode() * 100 for number in range(FILES)}}, "main"
    )
    return repository


class Reads:
    """Counts the objects whose content is read to verify it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.count = 0
        real = compute_file_digest

        def count(*arguments: object) -> object:
            self.count += 1
            return real(*arguments)  # type: ignore[arg-type]  # passed on as given

        monkeypatch.setattr("cfsctl.repository.objects.reader.compute_file_digest", count)

    def take(self) -> int:
        count, self.count = self.count, 0
        return count


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> Reads:
    return Reads(monkeypatch)


@pytest.fixture
def path(tmp_path: Path, repository: Repository) -> Path:
    repository.close()
    return tmp_path / "store"


def run(
    path: Path, fake: FakeOstreeRepository, *, is_later: bool = True, reporter: Reporter = silent
) -> PullResult:
    """Pull in a process that knows nothing, when everything has been left alone for a while."""
    with Repository.open(str(path)) as repository:
        if is_later:
            now = repository.verified._now_ns
            repository.verified._now_ns = lambda: now() + 10**10
        return pull(repository, fake, "main", PullOptions(workers=0), reporter=reporter)


def check(path: Path) -> list[str]:
    with Repository.open(str(path)) as repository:
        return check_repository(repository, deep=True).findings


def one_of(path: Path, kind: str, number: int = 3) -> Path:
    with Repository.open(str(path)) as repository:
        result = {stream.name: stream.object_id for stream in repository.streams.list_streams()}
        (stream_id,) = result.values()
        with repository.streams.open_object(stream_id) as stream:
            found: dict[str, ObjectID] = {
                "file": sorted(stream.object_refs)[number],
                "image": stream.named_refs["composefs.image"],
                "stream": stream_id,
            }
        return object_file(repository, found[kind])


def test_pull_of_what_is_here_reads_nothing(path: Path, fake: FakeOstreeRepository, reads: Reads) -> None:
    first = run(path, fake)
    reads.take()
    for _ in range(2):
        again = run(path, fake)
        assert (again.commit, again.image_id, again.files_fetched) == (first.commit, first.image_id, 0)
        assert reads.take() == 0


def test_what_was_just_written_is_read_once_more(
    path: Path, fake: FakeOstreeRepository, reads: Reads
) -> None:
    """Nobody can tell yet whether it will be changed in the same tick of the clock."""
    run(path, fake, is_later=False)
    reads.take()
    run(path, fake)
    assert 0 < reads.take() <= FILES + 2
    run(path, fake)
    assert reads.take() == 0


@pytest.mark.parametrize("damage", ["flipped", "cut", "empty", "gone", "other inode"])
@pytest.mark.parametrize("kind", ["file", "image", "stream"])
def test_damage_is_healed(
    path: Path, fake: FakeOstreeRepository, reads: Reads, kind: str, damage: str
) -> None:
    first = run(path, fake)
    reads.take()
    target = one_of(path, kind)
    content = target.read_bytes()
    match damage:
        case "flipped":
            flip_bit(target, len(content) - 1)
        case "cut":
            os.truncate(target, len(content) - 1)
        case "empty":
            os.truncate(target, 0)
        case "gone":
            target.unlink()
        case _:
            target.unlink()
            target.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    fake.asked.clear()
    again = run(path, fake)
    assert target.read_bytes() == content
    assert (again.commit, again.stream_id, again.image_id) == (first.commit, first.stream_id, first.image_id)
    assert again.files_fetched == {"file": 1, "image": 0, "stream": FILES}[kind]
    assert reads.take() <= FILES + 4
    assert check(path) == []
    assert run(path, fake).files_fetched == 0
    with Repository.open(str(path)) as repository:
        assert open_commit(repository, again.commit).image == first.image_id


def test_without_the_list_everything_is_read(path: Path, fake: FakeOstreeRepository, reads: Reads) -> None:
    run(path, fake)
    (path / VERIFIED_NAME).unlink()
    flip_bit(one_of(path, "file"), 5)
    reads.take()
    assert run(path, fake).files_fetched == 1
    assert reads.take() >= FILES
    assert check(path) == []


def test_damage_in_a_commit_that_is_only_a_base(path: Path, fake: FakeOstreeRepository) -> None:
    """The next commit takes most files from this one; a damaged one must not get into it."""
    run(path, fake)
    target = one_of(path, "file")
    flip_bit(target, 5)
    fake.commit({"usr": {**FILES_IN_USR, "new": b"new " * 100}}, "main", timestamp_s=1_700_000_000)
    assert run(path, fake).files_fetched == 2
    assert check(path) == []


@pytest.mark.parametrize("damage", ["flipped", "cut", "gone", "directory"])
def test_many_objects_are_looked_at_as_one_is(path: Path, fake: FakeOstreeRepository, damage: str) -> None:
    run(path, fake)
    target = one_of(path, "file")
    match damage:
        case "flipped":
            flip_bit(target, 7)
        case "cut":
            os.truncate(target, 1)
        case "gone":
            target.unlink()
        case _:
            target.unlink()
            target.mkdir()
    with Repository.open(str(path)) as repository:
        (stream,) = (entry.object_id for entry in repository.streams.list_streams())
        with repository.streams.open_object(stream) as reader:
            ids = list(reader.object_refs)
        one_by_one = {object_id: repository.objects.find_damage(object_id) for object_id in ids}
        expected = {
            object_id: found for object_id, found in one_by_one.items() if found is not ObjectState.SOUND
        }
        assert repository.objects.find_all_damage(ids) == expected
        assert len(expected) == 1


@pytest.mark.alone
def test_half_of_very_many_objects_is_looked_at_beside(
    path: Path, fake: FakeOstreeRepository, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(path, fake)
    monkeypatch.setattr("cfsctl.repository.objects.reader._WORTH_A_PROCESS", 2)
    with Repository.open(str(path)) as repository:
        (stream,) = (entry.object_id for entry in repository.streams.list_streams())
        with repository.streams.open_object(stream) as reader:
            ids = sorted(reader.object_refs)
        sizes = [os.stat(path / "objects" / i.hex()[:2] / i.hex()[2:]).st_size for i in ids]
        assert list(repository.objects.find_sizes(ids)) == sizes
        for number in (0, -1):
            flip_bit(path / "objects" / ids[number].hex()[:2] / ids[number].hex()[2:], 7)
            sizes[number] = to_doubtful(sizes[number])
        assert list(repository.objects.find_sizes(ids)) == sizes
        assert set(repository.objects.find_all_damage(ids)) == {ids[0], ids[-1]}


@pytest.mark.alone
@pytest.mark.parametrize("is_base", [False, True])
def test_many_objects_are_read_by_several_processes(
    path: Path, fake: FakeOstreeRepository, reads: Reads, monkeypatch: pytest.MonkeyPatch, *, is_base: bool
) -> None:
    """What is damaged is fetched again, what is not is remembered, and how far it is gets said."""
    monkeypatch.setattr("cfsctl.repository.objects.reader._WORTH_WORKERS", 2)
    monkeypatch.setattr("cfsctl.repository.objects.reader._VERIFY_BATCH", 7)
    run(path, fake)
    (path / VERIFIED_NAME).unlink()
    targets = [one_of(path, "file", number) for number in (3, 4)]
    flip_bit(targets[0], 5)
    targets[1].unlink()
    if is_base:
        fake.commit({"usr": {**FILES_IN_USR, "new": b"new " * 100}}, "main", timestamp_s=1_700_000_000)
    reads.take()
    events: list[Event] = []
    assert run(path, fake, reporter=events.append).files_fetched == (3 if is_base else 2)
    # Stream and image, and the damaged object before it is replaced, if not once before that as well.
    assert reads.take() <= 4
    assert check(path) == []
    verified = [event for event in events if getattr(event, "id", "") == "verify"]
    assert verified[0] == Started("verify", FILES - 1 if is_base else FILES, Unit.ITEMS)
    assert isinstance(verified[-1], Done)
    assert run(path, fake).files_fetched == 0
    assert reads.take() <= 4  # what the pull before has written
