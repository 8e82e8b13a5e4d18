"""The pull as a state machine: what is asked for, what is believed, what is refused."""

from __future__ import annotations

import stat
import zlib
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum, ObjectID
from cfsctl.errors import DigestMismatchError
from cfsctl.ostree.limits import MAX_DEPTH, LimitError, PlanLimits
from cfsctl.ostree.objects import (
    ObjectKind,
    OstreeObjectError,
    format_dirmeta,
    format_dirtree,
    format_zlib_header,
)
from cfsctl.ostree.plan import ConflictError, PullPlan
from cfsctl.ostree.store.in_memory import IncompleteError
from tests.fakes.ostree_repository import DIRECTORY, FakeOstreeRepository, Tree

if TYPE_CHECKING:
    from collections.abc import Mapping

TREE: Tree = {
    "a": b"alpha",
    "copy-of-a": b"alpha",
    "link": "a",
    "one": {"same": {"x": b"x"}},
    "two": {"same": {"x": b"x"}},
    "empty": {},
}

Objects = dict[Checksum, tuple[bytes, ObjectID | None]]


class StoredBase:
    """A base with given objects, which counts what it was asked for."""

    def __init__(self, objects: Mapping[Checksum, tuple[bytes, ObjectID | None]]) -> None:
        self.objects = dict(objects)

    def find(self, checksum: Checksum) -> tuple[bytes, ObjectID | None] | None:
        return self.objects.get(checksum)


def run(plan: PullPlan, repository: FakeOstreeRepository) -> PullPlan:
    """Fetch everything; content is taken over as it is stored, without its deflate stream."""
    repository.fetch_metadata(plan.next_request, plan.deliver)
    plan.check_tree()
    plan.deliver_files((checksum, b"content", None) for checksum in plan.take_files())
    return plan


def pulled(repository: FakeOstreeRepository, commit: Checksum) -> Objects:
    """Return the objects of a complete pull, with content as a commit stream has it."""
    plan = PullPlan(commit)
    repository.fetch_metadata(plan.next_request, plan.deliver)
    objects = dict(plan.objects)
    for checksum in plan.take_files():
        objects[checksum] = (inline_form(repository, checksum), None)
    return objects


def inline_form(repository: FakeOstreeRepository, checksum: Checksum) -> bytes:
    stored = repository.objects[checksum, ObjectKind.FILE]
    length = 8 + int.from_bytes(stored[:4], "big")
    body = stored[length:]
    return stored[:length] + (zlib.decompress(body, -15) if body else b"")


def test_everything_is_asked_for_once() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(TREE)
    plan = run(PullPlan(commit), repository)
    plan.check_complete()
    assert set(plan.objects) == {checksum for checksum, _ in repository.objects}
    assert set(repository.asked.values()) == {1}
    # commit; dirtrees: root, one == two, same, empty; one dirmeta.  Files: alpha, x, link.
    assert plan.counts == (6, 3, 3, 0)


def test_nothing_of_the_tree_is_asked_for_before_the_commit_was_seen() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(TREE)
    plan = PullPlan(commit)
    assert plan.next_request() == (commit, ObjectKind.COMMIT)
    assert plan.next_request() is None
    plan.deliver(commit, ObjectKind.COMMIT, repository.objects[commit, ObjectKind.COMMIT])
    assert plan.commit is not None
    assert plan.commit.subject == "subject"
    assert plan.next_request() == (plan.commit.root_dirtree, ObjectKind.DIRTREE)


def test_a_base_added_on_sight_of_the_commit_saves_the_whole_tree() -> None:
    repository = FakeOstreeRepository()
    first = repository.commit(TREE)
    second = repository.commit(TREE, parent=first, timestamp_s=1_700_000_000)
    base = StoredBase(pulled(repository, first))
    repository.asked.clear()
    plan = PullPlan(second)

    def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        plan.deliver(checksum, kind, data)
        assert plan.commit is not None
        assert plan.commit.parent == first
        plan.add_base(base)

    repository.fetch_metadata(plan.next_request, deliver)
    assert not plan.take_files()
    plan.check_complete()
    assert list(repository.asked) == [(second, ObjectKind.COMMIT)]
    assert plan.counts == (1, 0, 0, 8)


def test_what_changed_is_asked_for_and_the_rest_comes_from_the_base() -> None:
    repository = FakeOstreeRepository()
    base = StoredBase(pulled(repository, repository.commit(TREE)))
    changed = repository.commit({**TREE, "a": b"new"})
    repository.asked.clear()
    plan = PullPlan(changed)
    plan.add_base(base)
    repository.fetch_metadata(plan.next_request, plan.deliver)
    assert plan.take_files() == [repository.add_file(b"new")]
    assert [kind for _, kind in repository.asked] == [ObjectKind.COMMIT, ObjectKind.DIRTREE]


@pytest.mark.parametrize("damage", ["metadata", "inline content", "inline size", "no header"])
def test_a_base_that_is_damaged_is_not_believed(damage: str) -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({"a": b"alpha"})
    base = StoredBase(pulled(repository, commit))
    tree = repository.add_tree({"a": b"alpha"})[0]
    file = repository.add_file(b"alpha")
    data = base.objects[file][0]
    base.objects[file], base.objects[tree] = {
        "metadata": ((data, None), (b"\0" + base.objects[tree][0], None)),
        "inline content": ((data[:-1] + b"X", None), base.objects[tree]),
        "inline size": ((data + b"X", None), base.objects[tree]),
        "no header": ((b"junk", None), base.objects[tree]),
    }[damage]
    plan = PullPlan(commit)
    plan.add_base(base)
    repository.asked.clear()
    repository.fetch_metadata(plan.next_request, plan.deliver)
    wanted = plan.take_files()
    if damage == "metadata":
        assert list(repository.asked) == [(tree, ObjectKind.DIRTREE)]
        assert not wanted
    else:
        assert wanted == [file]


def test_content_that_is_an_object_is_taken_from_a_base_by_its_id() -> None:
    repository = FakeOstreeRepository()
    content = bytes(1000)
    commit = repository.commit({"a": content})
    file = repository.add_file(content)
    header = format_zlib_header(1000, 0, 0, stat.S_IFREG | 0o644)
    base = StoredBase({file: (header, ObjectID(b"\1" * 32))})
    plan = PullPlan(commit)
    plan.add_base(base)
    repository.fetch_metadata(plan.next_request, plan.deliver)
    assert not plan.take_files()
    assert plan.objects[file] == (header, b"\1" * 32)


def test_content_that_proves_damaged_is_wanted_after_all() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({"a": bytes(1000), "b": b"inline"})
    file = repository.add_file(bytes(1000))
    base = StoredBase({file: (format_zlib_header(1000, 0, 0, stat.S_IFREG | 0o644), ObjectID(b"\1" * 32))})
    plan = PullPlan(commit)
    plan.add_base(base)
    repository.fetch_metadata(plan.next_request, plan.deliver)
    fetched = plan.take_files()
    assert fetched == [repository.add_file(b"inline")]
    tree = repository.add_tree({"a": bytes(1000), "b": b"inline"})[0]
    # What is on its way, is metadata, or is of another commit is none that can be damaged there.
    plan.take_back([file, fetched[0], tree, Checksum(bytes(32))])
    assert plan.take_files() == [file]
    assert plan.counts.from_base == 0
    assert tree in plan.objects
    plan.deliver_files([(file, b"header", ObjectID(b"\1" * 32)), (fetched[0], b"header", None)])
    plan.check_complete()


def test_a_symbolic_link_is_never_an_object() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({"a": "target"})
    file = repository.add_symlink("target")
    plan = PullPlan(commit)
    plan.add_base(StoredBase({file: (repository.objects[file, ObjectKind.FILE], ObjectID(b"\1" * 32))}))
    repository.fetch_metadata(plan.next_request, plan.deliver)
    assert plan.take_files() == [file]


@pytest.mark.parametrize("kind", [ObjectKind.COMMIT, ObjectKind.DIRTREE, ObjectKind.DIRMETA])
def test_another_object_than_asked_for_is_refused_by_name(kind: ObjectKind) -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(TREE)
    checksum = next(name for name, its_kind in repository.objects if its_kind is kind)
    repository.objects[checksum, kind] += b"\0"
    with pytest.raises(DigestMismatchError, match=f"^{kind.label} object {checksum.hex()}: expected digest"):
        run(PullPlan(commit), repository)


def test_an_object_that_is_broken_is_refused_by_name() -> None:
    repository = FakeOstreeRepository()
    tree = repository.add_metadata(ObjectKind.DIRTREE, b"junk")
    meta = repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))
    with pytest.raises(OstreeObjectError, match=f"^dirtree object {tree.hex()}: "):
        run(PullPlan(repository.commit((tree, meta))), repository)


def test_one_checksum_is_one_kind_of_object() -> None:
    repository = FakeOstreeRepository()
    meta = repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))
    with pytest.raises(ConflictError, match=f"^object {meta.hex()}: .* dirmeta and as dirtree"):
        run(PullPlan(repository.commit((meta, meta))), repository)
    tree = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([(b"f", meta)], []))
    with pytest.raises(ConflictError, match=f"^object {meta.hex()}: .* dirmeta and as file"):
        run(PullPlan(repository.commit((tree, meta))), repository)


def chain(repository: FakeOstreeRepository, levels: int, copies: int) -> Checksum:
    """Return a commit of nested directories, each of which holds the next one `copies` times."""
    tree, meta = repository.add_tree({})
    for _ in range(levels):
        entries = [(b"%d" % number, tree, meta) for number in range(copies)]
        tree = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([], entries))
    return repository.commit((tree, meta))


def test_shared_subtrees_count_wherever_they_occur() -> None:
    repository = FakeOstreeRepository()
    with pytest.raises(LimitError, match="at most 10000000 entries in the whole tree"):
        run(PullPlan(chain(repository, 30, 2)), repository)
    limits = PlanLimits(max_entries=2 * (2**10 - 1))
    run(PullPlan(chain(repository, 10, 2), limits=limits), repository).check_complete()
    with pytest.raises(LimitError):
        run(PullPlan(chain(repository, 11, 2), limits=limits), repository)


def test_a_tree_may_be_some_times_what_its_dirtrees_are() -> None:
    limits = PlanLimits(max_shared_cost=1000, max_sharing=4)
    few, many = FakeOstreeRepository(), FakeOstreeRepository()
    run(PullPlan(chain(few, 2, 8), limits=limits), few).check_complete()  # 72 of 16, but below 1000
    with pytest.raises(LimitError, match="32 entries of its directories expand to 272"):
        run(PullPlan(chain(many, 2, 16), limits=limits), many)
    unshared = FakeOstreeRepository()
    names = {f"d{number}": {f"f{number}": b"x"} for number in range(300)}
    tree = unshared.commit(names)
    run(PullPlan(tree, limits=limits), unshared).check_complete()


def test_the_image_of_a_tree_is_bounded_before_its_files_are_fetched() -> None:
    repository = FakeOstreeRepository()
    file = repository.add_file(b"x")
    entries = [(b"%06d" % number + b"n" * 249, file) for number in range(2000)]
    inner = repository.add_metadata(ObjectKind.DIRTREE, format_dirtree(entries, []))
    meta = repository.add_metadata(ObjectKind.DIRMETA, format_dirmeta(DIRECTORY))
    outer = [(b"%04d" % number, inner, meta) for number in range(2050)]
    commit = repository.commit((repository.add_metadata(ObjectKind.DIRTREE, format_dirtree([], outer)), meta))
    with pytest.raises(LimitError, match="at most 1073741824 bytes of its image"):
        run(PullPlan(commit), repository)


def test_a_directory_that_holds_one_subtree_very_often_is_counted_quickly() -> None:
    repository = FakeOstreeRepository()
    with pytest.raises(LimitError, match="entries in the whole tree"):
        run(PullPlan(chain(repository, 3, 3000)), repository)


def test_depth_is_limited() -> None:
    repository = FakeOstreeRepository()
    run(PullPlan(chain(repository, MAX_DEPTH, 1)), repository).check_complete()
    with pytest.raises(LimitError, match=f"at most {MAX_DEPTH} nested directories"):
        run(PullPlan(chain(repository, MAX_DEPTH + 1, 1)), repository)


def test_distinct_entries_are_limited_while_they_arrive() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({str(number): b"" for number in range(20)})
    with pytest.raises(LimitError, match=f"^commit {commit.hex()}: expected at most 19 entries"):
        run(PullPlan(commit, limits=PlanLimits(max_entries=19)), repository)


def test_metadata_is_limited_as_a_whole() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(TREE)
    total = sum(len(data) for (_, kind), data in repository.objects.items() if kind.is_metadata)
    run(PullPlan(commit, limits=PlanLimits(max_metadata_bytes=total)), repository)
    with pytest.raises(LimitError, match=f"metadata of commit .* at most {total - 1} bytes"):
        run(PullPlan(commit, limits=PlanLimits(max_metadata_bytes=total - 1)), repository)


def test_what_is_missing_is_named() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit({"a": b"alpha"})
    plan = PullPlan(commit)
    repository.fetch_metadata(plan.next_request, plan.deliver)
    file = repository.add_file(b"alpha")
    assert list(plan.iter_missing()) == [(file, ObjectKind.FILE)]
    with pytest.raises(IncompleteError, match=f"1 missing, the first of them file object {file.hex()}"):
        plan.check_complete()


def test_wrong_order_is_our_own_mistake() -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(TREE)
    data = repository.objects[commit, ObjectKind.COMMIT]
    plan = PullPlan(commit)
    with pytest.raises(RuntimeError, match="was not asked for"):
        plan.deliver(commit, ObjectKind.COMMIT, data)
    with pytest.raises(RuntimeError, match="not complete yet"):
        plan.check_tree()
    with pytest.raises(RuntimeError, match="was not asked for"):
        plan.deliver_files([(commit, b"", None)])
    run(plan, repository)
    with pytest.raises(RuntimeError, match="was not asked for"):
        plan.deliver_files([(repository.add_file(b"alpha"), b"", None)])
    with pytest.raises(RuntimeError, match="was not asked for"):
        plan.deliver(commit, ObjectKind.COMMIT, data)


def test_a_large_dirtree_waits_until_there_is_need_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.ostree.plan._LARGE_DIRTREE_BYTES", 200)
    monkeypatch.setattr("cfsctl.ostree.objects._directory.PIECE_ENTRIES", 3)
    repository = FakeOstreeRepository()
    large = {f"{letter}{number}": {f"{number:03}": b"%d" % number} for number in range(9) for letter in "ab"}
    commit = repository.commit({**large, "one": b"1", "two": b"2"})
    plan = PullPlan(commit)
    repository.fetch_metadata(lambda: plan.next_request(lambda: False), plan.deliver)
    assert plan.has_wanted_metadata
    assert plan.take_files() == []
    with pytest.raises(RuntimeError, match="not complete"):
        plan.check_tree()
    repository.fetch_metadata(plan.next_request, plan.deliver)
    plan.check_tree()
    plan.deliver_files((checksum, b"content", None) for checksum in plan.take_files())
    plan.check_complete()
    assert set(plan.objects) == {checksum for checksum, _ in repository.objects}
    assert set(repository.asked.values()) == {1}


def test_attributes_of_a_whole_commit_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.ostree.plan.MAX_EXCESS_BYTES", 1000)
    repository = FakeOstreeRepository()
    plan = PullPlan(repository.commit({"a": b"a", "b": b"b", "c": b"c"}))
    repository.fetch_metadata(plan.next_request, plan.deliver)
    files = plan.take_files()
    plan.deliver_files((file, bytes(1500), None) for file in files[:2])
    with pytest.raises(LimitError, match=r"attributes in commit.*1024 bytes for each file and 1000 bytes"):
        plan.deliver_files([(files[2], bytes(1500), None)])
