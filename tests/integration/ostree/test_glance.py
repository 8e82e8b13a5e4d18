"""A pull of nothing new leaves out what was looked at today, and misses nothing that it should see."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.ostree.pull import glance
from cfsctl.ostree.pull.glance import Glance
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.pull.target import Target
from cfsctl.ostree.pull.unchanged import find_unchanged
from cfsctl.ostree.store.commit_stream import CommitStream
from cfsctl.ostree.store.refs import find_tag, open_commit, remove_tag
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.ostree.trust.policy import TrustPolicy
from cfsctl.repository import Repository
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.objects.reader import ObjectReader
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

FILES = 64
PARTS = 4
DAY_S = 24 * 60 * 60


class Clock:
    """Says what time it is, long after anything was written, and which objects are drawn."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now_s = 4_000_000_000.0 // DAY_S * DAY_S
        self.part = 0
        self.looked: list[int] = []
        real_init, real_sizes = Glance.__init__, ObjectReader.find_sizes

        def begin(made: Glance, *arguments: object) -> None:
            real_init(made, *arguments, lambda: self.now_s, lambda: self.part)  # type: ignore[call-arg, arg-type]  # passed on

        def find_sizes(reader: ObjectReader, ids: Sequence[object]) -> object:
            self.looked.append(len(ids))
            return real_sizes(reader, ids)  # type: ignore[arg-type]  # passed on as given

        monkeypatch.setattr(glance, "_WORTH_IT", 8)
        monkeypatch.setattr(glance, "_PART", FILES // PARTS)
        monkeypatch.setattr(Glance, "__init__", begin)
        monkeypatch.setattr(ObjectReader, "find_sizes", find_sizes)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def fake() -> FakeOstreeRepository:
    repository = FakeOstreeRepository()
    repository.commit({f"f{number}": b"content %d " % number * 30 for number in range(FILES)}, "main")
    return repository


@pytest.fixture
def path(tmp_path: Path) -> Path:
    make_repository(tmp_path / "store").close()
    return tmp_path / "store"


def run(path: Path, fake: FakeOstreeRepository, clock: Clock, ref: str = "main") -> tuple[int, int]:
    """Pull; return how many contents were looked at, and how many were fetched."""
    clock.looked.clear()
    with Repository.open(str(path)) as repository:
        now = repository.verified._now_ns
        repository.verified._now_ns = lambda: now() + 10**10
        result = pull(repository, fake, ref, PullOptions(workers=0))
    return sum(clock.looked), result.files_fetched


def contents(path: Path, fake: FakeOstreeRepository) -> list[Path]:
    with Repository.open(str(path)) as repository:
        refs = open_commit(repository, fake.refs["main"]).object_refs
        return [object_file(repository, object_id) for object_id in refs]


def settle(path: Path, fake: FakeOstreeRepository, clock: Clock) -> None:
    """Pull until all contents were looked at."""
    run(path, fake, clock)
    run(path, fake, clock)
    assert run(path, fake, clock)[0] < FILES


def test_later_pulls_look_at_a_part(path: Path, fake: FakeOstreeRepository, clock: Clock) -> None:
    run(path, fake, clock)
    assert run(path, fake, clock) == (FILES, 0)
    for clock.part in (0, PARTS - 1):
        found = run(path, fake, clock)
        assert FILES // PARTS <= found[0] < FILES // 2
        assert found[1] == 0
    clock.now_s += DAY_S
    assert run(path, fake, clock) == (FILES, 0)
    assert run(path, fake, clock)[0] < FILES


@pytest.mark.parametrize("change", ["removed", "replaced"])
def test_missing_and_replaced_objects_are_noticed_at_once(
    path: Path, fake: FakeOstreeRepository, clock: Clock, change: str
) -> None:
    settle(path, fake, clock)
    files = contents(path, fake)
    clock.part = PARTS - 1
    content = files[0].read_bytes()
    files[0].unlink()
    if change == "replaced":
        files[0].write_bytes(b"x" * len(content))
    assert run(path, fake, clock)[1] == 1
    assert files[0].read_bytes() == content


def test_changed_object_is_noticed_by_chance_or_on_the_next_day(
    path: Path, fake: FakeOstreeRepository, clock: Clock
) -> None:
    settle(path, fake, clock)
    first, last = contents(path, fake)[0], contents(path, fake)[-1]
    before = first.read_bytes(), last.read_bytes()
    flip_bit(first, 3)
    clock.part = PARTS - 1
    assert run(path, fake, clock)[1] == 0
    clock.part = 0
    assert run(path, fake, clock)[1] == 1
    settle(path, fake, clock)
    os.truncate(last, 5)
    clock.part = 0
    assert run(path, fake, clock)[1] == 0
    clock.now_s += DAY_S
    assert run(path, fake, clock)[1] == 1
    assert (first.read_bytes(), last.read_bytes()) == before


def test_damage_in_the_sample_has_everything_looked_at(
    path: Path, fake: FakeOstreeRepository, clock: Clock
) -> None:
    settle(path, fake, clock)
    files = contents(path, fake)
    for file in (files[0], files[-1]):
        flip_bit(file, 0)
    clock.part = 0
    assert run(path, fake, clock)[1] == 2


def test_other_pulls_have_everything_looked_at(path: Path, fake: FakeOstreeRepository, clock: Clock) -> None:
    settle(path, fake, clock)
    fake.commit({"other": b"other " * 30}, "other")
    run(path, fake, clock, "other")
    assert run(path, fake, clock)[0] >= FILES


def test_directories_that_were_just_changed_are_not_relied_on(
    path: Path, fake: FakeOstreeRepository, clock: Clock
) -> None:
    clock.now_s = 0.0
    run(path, fake, clock)
    for _ in range(2):
        assert run(path, fake, clock)[0] >= FILES


# --- pulls that decode nothing ------------------------------------------------------------------


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Get what is decoded of stored commits."""
    found: list[object] = []
    read = CommitStream.read

    def note(*arguments: object, **options: object) -> CommitStream:
        found.append(arguments)
        return read(*arguments, **options)  # type: ignore[arg-type]  # passed on as given

    monkeypatch.setattr(CommitStream, "read", note)
    return found


def test_unchanged_commit_is_not_decoded(
    path: Path, fake: FakeOstreeRepository, clock: Clock, decoded: list[object]
) -> None:
    run(path, fake, clock)
    with Repository.open(str(path)) as repository:
        expected = pull(repository, fake, "main", PullOptions(workers=0))
    settle(path, fake, clock)
    decoded.clear()
    with Repository.open(str(path)) as repository:
        assert pull(repository, fake, "main", PullOptions(workers=0)) == expected
        assert decoded == []
        pull(repository, fake, fake.refs["main"].hex(), PullOptions(workers=0))
        assert decoded, "that was not pulled by its ID before"


def test_unchanged_commit_of_few_objects_is_looked_at_in_full(
    path: Path,
    fake: FakeOstreeRepository,
    clock: Clock,
    decoded: list[object],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(glance, "_WORTH_IT", FILES + 1)
    for _ in range(3):
        run(path, fake, clock)
    decoded.clear()
    looked, fetched = run(path, fake, clock)
    assert (looked >= FILES, fetched, decoded) == (True, 0, [])
    file = contents(path, fake)[-1]
    flip_bit(file, 0)
    assert run(path, fake, clock)[1] == 1


@pytest.mark.parametrize(
    "options",
    [
        PullOptions(base_name="main"),
        PullOptions(trust=TrustPolicy()),
        PullOptions(subpaths=("/f1",)),
        PullOptions(from_scratch=True),
        PullOptions(xattr_names=XattrNames.UPSTREAM),
    ],
)
def test_pulls_that_ask_for_more_are_whole_ones(
    path: Path, fake: FakeOstreeRepository, clock: Clock, options: PullOptions
) -> None:
    settle(path, fake, clock)
    with Repository.open(str(path)) as repository:
        target = Target(fake.refs["main"], "main")
        assert find_unchanged(repository, target, PullOptions()) is not None
        assert find_unchanged(repository, target, options) is None


def forge_tag(store: Path) -> None:
    (store / "streams/refs/ostree/main").unlink()


def forge_image_name(store: Path) -> None:
    next((store / "images").iterdir()).unlink()


def forge_image(store: Path) -> None:
    flip_bit(next(one for one in (store / "images").iterdir() if one.is_symlink()).resolve(), 2000)


def forge_stream(store: Path) -> None:
    flip_bit(next(one for one in (store / "streams").iterdir() if one.is_symlink()).resolve(), 3000)


def forge_marks(store: Path) -> None:
    (store / ".cfsctl-verified").unlink()


@pytest.mark.parametrize("forge", [forge_tag, forge_image_name, forge_image, forge_stream, forge_marks])
def test_what_was_changed_since_is_healed(
    path: Path, fake: FakeOstreeRepository, clock: Clock, forge: Callable[[Path], None]
) -> None:
    settle(path, fake, clock)
    with Repository.open(str(path)) as repository:
        expected = pull(repository, fake, "main", PullOptions(workers=0))
    forge(path)
    with Repository.open(str(path)) as repository:
        target = Target(fake.refs["main"], "main")
        assert find_unchanged(repository, target, PullOptions()) is None
        result = pull(repository, fake, "main", PullOptions(workers=0))
        assert (result.image_id, result.stream_id) == (expected.image_id, expected.stream_id)
        assert not repository.objects.find_all_damage([expected.image_id, expected.stream_id])
    assert find_tag_of(path) == fake.refs["main"]


def find_tag_of(path: Path) -> object:
    with Repository.open(str(path)) as repository:
        return find_tag(repository, "main")


# --- bases --------------------------------------------------------------------------------------


def change(fake: FakeOstreeRepository) -> None:
    """Make a commit of which one file is new."""
    files = {f"f{number}": b"content %d " % number * 30 for number in range(FILES)}
    fake.commit({**files, "f0": b"other content " * 30}, "new")


def test_update_looks_at_a_part_of_its_base(path: Path, fake: FakeOstreeRepository, clock: Clock) -> None:
    change(fake)
    run(path, fake, clock)
    looked, fetched = run_on_base(path, fake, clock)
    assert (looked >= FILES, fetched) == (True, 1)
    with Repository.open(str(path)) as repository:
        remove_tag(repository, "new")
        collect_garbage(repository)
    settle(path, fake, clock)
    looked, fetched = run_on_base(path, fake, clock)
    assert (looked < FILES // 2, fetched) == (True, 1)


@pytest.mark.parametrize("damage", ["removed", "changed in the sample"])
def test_damage_of_a_base_is_noticed(
    path: Path, fake: FakeOstreeRepository, clock: Clock, damage: str
) -> None:
    change(fake)
    settle(path, fake, clock)
    files = contents(path, fake)[1:]
    if damage == "removed":
        clock.part = PARTS - 1
        files[0].unlink()
        assert run_on_base(path, fake, clock)[1] == 2
        return
    clock.part = 0
    for file in (files[1], files[-2]):
        flip_bit(file, 0)
    assert run_on_base(path, fake, clock)[1] == 3


def run_on_base(path: Path, fake: FakeOstreeRepository, clock: Clock) -> tuple[int, int]:
    clock.looked.clear()
    with Repository.open(str(path)) as repository:
        result = pull(repository, fake, "new", PullOptions(workers=0, base_name="main"))
    return sum(clock.looked), result.files_fetched
