"""Pulls from start to end: what is fetched, what is named when, what heals."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError, DigestMismatchError, ExitCode, ObjectMissingError, RefNotFoundError
from cfsctl.gvariant import Variant
from cfsctl.ostree.limits import LimitError, PlanLimits
from cfsctl.ostree.objects import (
    Dirmeta,
    ObjectKind,
    OstreeObjectError,
    format_dirmeta,
    format_dirtree,
    loose_path,
)
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.store import publish
from cfsctl.ostree.store.binding import BindingError, DowngradeError
from cfsctl.ostree.store.commit_writer import write_commit_stream
from cfsctl.ostree.store.images import commit_image
from cfsctl.ostree.store.refs import CommitNotFoundError, find_tag, open_commit, remove_tag, stream_name
from cfsctl.ostree.tree.xattr_names import XattrNames
from cfsctl.progress import Done, Event, Message
from cfsctl.repository.gc.collect import collect_garbage
from cfsctl.repository.names.names import InvalidNameError
from tests.fakes.ostree_repository import FakeOstreeRepository, Tree
from tests.support.repositories import object_file, view

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

TREE: Tree = {
    "etc": {"hosts": b"127.0.0.1 localhost\n", "empty": b""},
    "usr": {
        "bin": {f"tool{number}": f"tool {number} ".encode() * 100 for number in range(40)},
        "lib": {"libx.so": "libx.so.1", "libx.so.1": b"\x7fELF" + bytes(200_000)},
    },
    "bin": "usr/bin",
}
WITHOUT_WORKERS = 0


class Notes:
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def __call__(self, event: Event, /) -> None:
        self.events.append(event)

    @property
    def messages(self) -> list[str]:
        return [event.text for event in self.events if isinstance(event, Message)]


@pytest.fixture
def fake() -> FakeOstreeRepository:
    repository = FakeOstreeRepository()
    repository.commit(TREE, "main")
    return repository


def names_in(repository: Repository) -> dict[str, str]:
    """Return everything that has a name, except what is kept for the next pull and is no commit."""
    found = view(repository_path(repository))
    kept = "streams/ostree-partial-"
    return {name: text for name, text in found.items() if text.startswith("->") and not name.startswith(kept)}


def repository_path(repository: Repository) -> Path:
    return Path(repository.path)


def fetched(fake: FakeOstreeRepository) -> list[Checksum]:
    return [checksum for checksum, _ in fake.asked.elements()]


def here(repository: Repository, fake: FakeOstreeRepository, ref: str = "main") -> PullResult:
    return pull(repository, fake, ref, PullOptions(workers=WITHOUT_WORKERS))


def test_the_number_of_workers_changes_nothing(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path
) -> None:
    fake.write(tmp_path / "source")
    results = []
    for count in (0, 1, 3):
        source = LocalSource(str(tmp_path / "source"))
        remove_everything(repository)
        results.append(pull(repository, source, "main", PullOptions(workers=count)))
        source.close()
    assert results[0] == results[1] == results[2]
    assert results[0].metadata_fetched == 7
    assert results[0].files_fetched == sum(kind is ObjectKind.FILE for _, kind in fake.objects)
    assert results[0].received_bytes == sum(
        len(data) for (_, kind), data in fake.objects.items() if kind is ObjectKind.FILE
    )
    assert results[0].stored_objects == 41


def remove_everything(repository: Repository) -> None:
    if find_tag(repository, "main"):
        remove_tag(repository, "main")
    collect_garbage(repository)
    assert not names_in(repository)


def test_progress_is_reported(repository: Repository, fake: FakeOstreeRepository) -> None:
    notes = Notes()
    pull(repository, fake, "main", PullOptions(workers=WITHOUT_WORKERS), reporter=notes)
    assert [event for event in notes.events if isinstance(event, Done)] == [
        Done("metadata", 7),
        Done("files", 45),
    ]
    assert not notes.messages


def test_a_second_pull_fetches_nothing(repository: Repository, fake: FakeOstreeRepository) -> None:
    first = here(repository, fake)
    before = names_in(repository)
    objects = view(repository_path(repository) / "objects")
    fake.asked.clear()
    second = here(repository, fake)
    assert not fake.asked
    assert (second.stream_id, second.image_id, second.tag) == (first.stream_id, first.image_id, "main")
    assert (second.metadata_fetched, second.files_fetched) == (0, 0)
    assert names_in(repository) == before
    assert view(repository_path(repository) / "objects") == objects


def test_a_ref_is_made_although_the_commit_is_there(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    result = here(repository, fake, fake.refs["main"].hex())
    assert result.tag is None
    assert find_tag(repository, "main") is None
    assert here(repository, fake).tag == "main"
    assert find_tag(repository, "main") == fake.refs["main"]
    collect_garbage(repository)
    assert open_commit(repository, fake.refs["main"]).checksum == fake.refs["main"]


def test_a_ref_moves_and_its_old_commit_saves_what_is_the_same(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    here(repository, fake)
    fake.asked.clear()
    new = fake.commit({**TREE, "new": b"new"}, "main", timestamp_s=1_700_000_000)
    result = here(repository, fake)
    assert (result.metadata_fetched, result.files_fetched) == (2, 1)
    assert find_tag(repository, "main") == new == result.commit


def test_a_parent_that_is_here_saves_what_is_the_same(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    parent = here(repository, fake).commit
    remove_tag(repository, "main")
    new = fake.commit({**TREE, "new": b"new"}, parent=parent)
    result = here(repository, fake, new.hex())
    assert (result.metadata_fetched, result.files_fetched) == (2, 1)


def test_a_named_base_saves_what_is_the_same(repository: Repository, fake: FakeOstreeRepository) -> None:
    here(repository, fake)
    fake.commit({**TREE, "new": b"new"}, "other")
    result = pull(repository, fake, "other", PullOptions(base_name="main", workers=WITHOUT_WORKERS))
    assert (result.metadata_fetched, result.files_fetched) == (2, 1)
    with pytest.raises(CommitNotFoundError, match="'nope' is not a known ostree ref"):
        pull(repository, fake, "other", PullOptions(base_name="nope"))


def test_an_object_of_the_base_that_is_gone_is_fetched(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    here(repository, fake)
    victim = open_commit(repository, fake.refs["main"]).object_refs[7]
    object_file(repository, victim).unlink()
    fake.commit({**TREE, "new": b"new"}, "other")
    result = pull(repository, fake, "other", PullOptions(base_name="main", workers=WITHOUT_WORKERS))
    assert (result.metadata_fetched, result.files_fetched) == (2, 2)
    assert repository.objects.contains(victim)


# --- healing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(("damage", "found"), [("gone", "missing"), ("shorter", "missing or damaged")])
def test_missing_objects_of_a_commit_that_is_here_are_fetched_again(
    repository: Repository, fake: FakeOstreeRepository, damage: str, found: str
) -> None:
    first = here(repository, fake)
    victims = open_commit(repository, first.commit).object_refs[3:5]
    for victim in victims:
        file = object_file(repository, victim)
        file.unlink() if damage == "gone" else os.truncate(file, 10)
    fake.asked.clear()
    notes = Notes()
    second = pull(repository, fake, "main", PullOptions(workers=WITHOUT_WORKERS), reporter=notes)
    assert notes.messages == [
        f"stored commit {first.commit.hex()}: 2 of its objects are {found}; fetched again",
    ]
    assert (second.metadata_fetched, second.files_fetched, second.stored_objects) == (0, 2, 2)
    for victim in victims:
        assert len(repository.objects.read(victim)) > 10  # which raises an error if the digest is wrong
    assert (second.stream_id, second.image_id) == (first.stream_id, first.image_id)


@pytest.mark.parametrize("damage", ["gone", "no image name", "junk"])
def test_a_missing_image_is_made_again_without_fetching(
    repository: Repository, fake: FakeOstreeRepository, damage: str
) -> None:
    first = here(repository, fake)
    file = object_file(repository, first.image_id)
    if damage == "no image name":
        (repository_path(repository) / "images" / first.image_id.hex()).unlink()
    else:
        size = file.stat().st_size
        file.unlink()
        if damage == "junk":
            file.write_bytes(bytes(size - 1))
    fake.asked.clear()
    second = here(repository, fake)
    assert not fake.asked
    assert (second.stream_id, second.image_id) == (first.stream_id, first.image_id)
    assert repository.images.find(first.image_id.hex()) == first.image_id
    assert repository.objects.contains(first.image_id, len(repository.objects.read(first.image_id)))


@pytest.mark.parametrize("damage", ["gone", "cut", "junk", "of another commit", "dangling"])
def test_a_stream_that_is_damaged_is_replaced(
    repository: Repository, fake: FakeOstreeRepository, damage: str
) -> None:
    first = here(repository, fake)
    file = object_file(repository, first.stream_id)
    link = repository_path(repository) / "streams" / stream_name(first.commit)
    match damage:
        case "gone":
            file.unlink()
        case "cut":
            os.truncate(file, file.stat().st_size - 20)
        case "junk":
            file.write_bytes(b"junk")
        case "of another commit":
            other = fake.commit({}, "other")
            repository.streams.link(stream_name(first.commit), here(repository, fake, "other").stream_id)
            assert other != first.commit
        case _:
            link.unlink()
            link.symlink_to("../elsewhere")
    notes = Notes()
    fake.asked.clear()
    second = pull(repository, fake, "main", PullOptions(workers=WITHOUT_WORKERS), reporter=notes)
    assert len(notes.messages) in {1, 2}
    assert notes.messages[0].startswith(f"stored commit {first.commit.hex()} is damaged and not used: ")
    assert second.files_fetched == 45
    assert second.stored_objects == 0
    assert (second.stream_id, second.image_id) == (first.stream_id, first.image_id)
    assert open_commit(repository, first.commit).image == first.image_id


def test_a_stream_that_lacks_objects_is_completed(repository: Repository, fake: FakeOstreeRepository) -> None:
    """The original leaves such a stream behind when a pull fails late, and then fails for ever."""
    first = here(repository, fake)
    stream = open_commit(repository, first.commit)
    objects = {checksum: found for checksum in stream if (found := stream.find(checksum))}
    lost = fake.add_file(b"127.0.0.1 localhost\n")
    del objects[lost]
    broken = write_commit_stream(repository.objects, repository.algorithm, first.commit, objects)
    repository.streams.link(stream_name(first.commit), broken)
    fake.asked.clear()
    second = here(repository, fake)
    assert fetched(fake) == [lost]
    assert (second.stream_id, second.image_id) == (first.stream_id, first.image_id)


# --- failures -----------------------------------------------------------------------------------

FAULTS = ("missing", "empty", "cut", "flipped", "longer", "another object")


def break_object(fake: FakeOstreeRepository, key: tuple[Checksum, ObjectKind], fault: str) -> None:
    data = fake.objects[key]
    half = len(data) // 2
    others = [other for name, other in fake.objects.items() if name[1] is key[1] and name != key]
    broken = {
        "empty": b"",
        "cut": data[:-1],
        "flipped": data[:half] + bytes((data[half] ^ 1,)) + data[half + 1 :],
        "longer": data + b"x",
        "another object": others[0],
    }
    if fault == "missing":
        del fake.objects[key]
    else:
        fake.objects[key] = broken[fault]


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ObjectKind)
def test_one_bad_object_fails_the_pull_and_its_repair_mends_it(
    repository: Repository, fake: FakeOstreeRepository, kind: ObjectKind, fault: str, workers: int
) -> None:
    key = pick(fake, kind)
    fake.commit({"other": b"commit"})
    fake.add_metadata(ObjectKind.DIRMETA, format_dirmeta(Dirmeta(1, 1, stat.S_IFDIR | 0o700, ())))
    good = dict(fake.objects)
    break_object(fake, key, fault)
    with pytest.raises(CfsError, match=f"{kind.label} object {key[0].hex()}") as caught:
        pull(repository, fake, "main", PullOptions(workers=workers))
    assert isinstance(caught.value, ObjectMissingError | OstreeObjectError | DigestMismatchError)
    assert caught.value.exit_code is ExitCode.INVALID_DATA
    assert not names_in(repository)
    fake.objects = good
    result = pull(repository, fake, "main", PullOptions(workers=workers))
    assert find_tag(repository, "main") == result.commit


def pick(fake: FakeOstreeRepository, kind: ObjectKind) -> tuple[Checksum, ObjectKind]:
    """Return an object of the commit."""
    return next(key for key in fake.objects if key[1] is kind)


def test_what_was_fetched_before_a_failure_is_not_fetched_again(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    victim = (fake.add_file(b"tool 7 " * 100), ObjectKind.FILE)
    data = fake.objects.pop(victim)
    with pytest.raises(ObjectMissingError):
        here(repository, fake)
    fake.objects[victim] = data
    result = here(repository, fake)
    assert result.stored_objects < 41
    assert fake.asked.pop(victim) == 2
    assert set(fake.asked.values()) == {1}


def test_a_failing_pull_leaves_the_old_commit_and_its_tag(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    here(repository, fake)
    before = names_in(repository)
    new = fake.add_file(b"new")
    fake.commit({**TREE, "new": b"new"}, "main", timestamp_s=1_700_000_000)
    del fake.objects[new, ObjectKind.FILE]
    with pytest.raises(
        ObjectMissingError, match=f"file object {new.hex()} is missing from a repository in memory"
    ):
        here(repository, fake)
    assert names_in(repository) == before


@pytest.mark.parametrize("step", ["stream", "sync", "images.link", "streams.link"])
def test_nothing_is_named_before_everything_is_durable(
    repository: Repository, fake: FakeOstreeRepository, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    """Stops a pull at each step of its end and looks at what has a name by then."""
    order: list[str] = []

    class StopError(Exception):
        pass

    def watch(owner: object, attribute: str, name: str) -> None:
        call = getattr(owner, attribute)

        def run(*arguments: object) -> object:
            if name == "sync" and not order:
                return call(*arguments)  # Contents are on their way to the disk while the images are made.
            order.append(name)
            if name == step:
                raise StopError
            return call(*arguments)

        monkeypatch.setattr(owner, attribute, run)

    watch(publish, "begin_commit_stream", "stream")
    watch(repository, "sync", "sync")
    watch(repository.images, "link", "images.link")
    watch(repository.streams, "link", "streams.link")
    with pytest.raises(StopError):
        here(repository, fake)
    assert order == ["stream", "sync", "images.link", "streams.link"][: len(order)]
    assert not any(name.startswith("streams/") for name in names_in(repository))
    monkeypatch.undo()
    assert here(repository, fake).stored_objects == 0


def test_a_ref_that_the_source_has_not(repository: Repository, fake: FakeOstreeRepository) -> None:
    with pytest.raises(RefNotFoundError):
        here(repository, fake, "nope")
    with pytest.raises(ObjectMissingError, match=f"^commit object {'0' * 64} is missing"):
        here(repository, fake, "0" * 64)
    assert not names_in(repository)


@pytest.mark.parametrize("name", ["", ".", ".."])
def test_what_can_be_no_tag_is_refused_before_anything_is_asked(
    repository: Repository, fake: FakeOstreeRepository, name: str
) -> None:
    fake.refs[name] = fake.refs["main"]
    with pytest.raises(InvalidNameError):
        here(repository, fake, name)
    assert not fake.asked


def test_limits_are_the_callers(repository: Repository, fake: FakeOstreeRepository) -> None:
    with pytest.raises(LimitError, match="at most 10 entries"):
        pull(
            repository, fake, "main", PullOptions(limits=PlanLimits(max_entries=10), workers=WITHOUT_WORKERS)
        )
    assert not names_in(repository)


# --- policy -------------------------------------------------------------------------------------


def bound(*refs: str) -> tuple[tuple[str, Variant], ...]:
    return (("ostree.ref-binding", Variant("as", list(refs))),)


def test_a_commit_for_another_ref_is_refused_before_its_tree_is_asked_for(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    commit = fake.commit(TREE, "main", metadata=bound("stable", "testing"))
    message = f"commit {commit.hex()}: .* ref 'main', found one that is bound to 'stable', 'testing'"
    with pytest.raises(BindingError, match=message):
        here(repository, fake)
    assert fetched(fake) == [commit]
    assert here(repository, fake, commit.hex()).commit == commit
    with pytest.raises(BindingError):
        here(repository, fake)  # It is here now, and still must not have the ref.
    assert find_tag(repository, "main") is None


def test_what_is_kept_of_a_failed_pull_is_no_way_around_the_binding(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    commit = fake.commit(TREE, "main", metadata=bound("stable"))
    victim = (fake.add_file(b"tool 7 " * 100), ObjectKind.FILE)
    data = fake.objects.pop(victim)
    with pytest.raises(ObjectMissingError):
        here(repository, fake, commit.hex())
    fake.objects[victim] = data
    with pytest.raises(BindingError):
        here(repository, fake)
    assert find_tag(repository, "main") is None


@pytest.mark.parametrize("name", ["main", "heads/main", "remotes/origin/main", "origin:main"])
def test_a_bound_commit_by_all_names_of_its_branch(
    repository: Repository, fake: FakeOstreeRepository, name: str
) -> None:
    fake.refs[name] = fake.commit(TREE, metadata=bound("main"))
    assert here(repository, fake, name).tag == name


def test_a_ref_goes_back_in_time_only_when_told_to(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    new = here(repository, fake).commit
    old = fake.commit(TREE, "main", timestamp_s=1_500_000_000)
    with pytest.raises(
        DowngradeError, match=f"newer than {new.hex()} of 2020-09-13 12:26:40 UTC, found {old.hex()}"
    ):
        here(repository, fake)
    assert find_tag(repository, "main") == new
    result = pull(repository, fake, "main", PullOptions(allow_downgrade=True, workers=WITHOUT_WORKERS))
    assert find_tag(repository, "main") == old == result.commit


def test_a_commit_of_the_same_second_must_be_a_child(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    old = here(repository, fake).commit
    fake.commit({"other": b"tree"}, "main")
    with pytest.raises(DowngradeError):
        here(repository, fake)
    child = fake.commit({"other": b"tree"}, "main", parent=old)
    assert here(repository, fake).commit == child


def test_a_tag_whose_commit_is_gone_is_no_obstacle(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    here(repository, fake)
    os.unlink(repository_path(repository) / "streams" / stream_name(fake.refs["main"]))
    old = fake.commit(TREE, "main", timestamp_s=1_500_000_000)
    assert here(repository, fake).commit == old


# --- names of attributes ------------------------------------------------------------------------

XATTRS = ((b"security.selinux\0", b"system_u:object_r:etc_t:s0\0"), (b"user.x\0", b"1"))


def labelled(fake: FakeOstreeRepository, *, directories: bool) -> Checksum:
    meta = Dirmeta(0, 0, stat.S_IFDIR | 0o755, XATTRS if directories else ())
    file = fake.add_file(bytes(1000), xattrs=XATTRS)
    tree = fake.add_metadata(ObjectKind.DIRTREE, format_dirtree([(b"file", file)], []))
    return fake.commit((tree, fake.add_metadata(ObjectKind.DIRMETA, format_dirmeta(meta))), "main")


@pytest.mark.parametrize("use", ["pull", "compute"])
@pytest.mark.parametrize("directories", [True, False])
def test_an_image_with_names_as_the_original_leaves_them_is_replaced(
    repository: Repository,
    fake: FakeOstreeRepository,
    use: str,
    directories: bool,  # noqa: FBT001 - a parameter
) -> None:
    commit = labelled(fake, directories=directories)
    theirs = pull(
        repository, fake, "main", PullOptions(xattr_names=XattrNames.UPSTREAM, workers=WITHOUT_WORKERS)
    )
    notes = Notes()
    if use == "pull":
        ours = pull(repository, fake, "main", reporter=notes).image_id
    else:
        ours = commit_image(repository, commit, reporter=notes)
    assert ours != theirs.image_id
    assert len(notes.messages) == 1
    assert notes.messages[0].endswith(f"replaced by {ours.hex()}")
    assert open_commit(repository, commit).image == ours
    notes = Notes()
    assert commit_image(repository, commit, reporter=notes) == ours
    assert commit_image(repository, commit, xattr_names=XattrNames.UPSTREAM) == theirs.image_id
    assert not notes.messages
    assert open_commit(repository, commit).image == ours


def test_content_that_looks_like_a_wrong_name_changes_nothing(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    """The bytes by which a wrong name is known occur in content that is inline in the image."""
    trap = bytes((len("selinux") + 1, 6)) + b"\1\0selinux\0"
    file = fake.add_file(trap, xattrs=XATTRS)
    _, meta = fake.add_tree({})
    tree = fake.add_metadata(ObjectKind.DIRTREE, format_dirtree([(b"file", file)], []))
    commit = fake.commit((tree, meta), "main")
    image = here(repository, fake).image_id
    notes = Notes()
    assert commit_image(repository, commit, reporter=notes) == image
    assert not notes.messages


def test_the_source_of_a_pull_may_be_read_only(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path
) -> None:
    fake.write(tmp_path / "source")
    before = view(tmp_path / "source")
    source = LocalSource(str(tmp_path / "source"))
    pull(repository, source, "main")
    source.close()
    assert view(tmp_path / "source") == before
    assert (tmp_path / "source" / loose_path(fake.refs["main"], ObjectKind.COMMIT)).exists()
