"""Whatever tree, order of arrival and bases: a plan asks for each object once and ends complete."""

from __future__ import annotations

import zlib
from random import Random  # noqa: TC003 - hypothesis reads the annotation
from typing import TYPE_CHECKING, cast

from hypothesis import given
from hypothesis import strategies as st

from cfsctl.ostree.objects import ObjectKind, parse_header_length
from cfsctl.ostree.plan import PullPlan
from tests.fakes.ostree_repository import FakeOstreeRepository

if TYPE_CHECKING:
    from cfsctl.digest import Checksum, ObjectID
    from cfsctl.ostree.objects.held_objects import Lender

_NAMES = st.sampled_from(["a", "b", "c", "d", "é"])
_LEAVES = st.one_of(st.binary(max_size=3), st.sampled_from(["x", "y"]))
_TREES = st.recursive(
    st.dictionaries(_NAMES, _LEAVES, max_size=3),
    lambda inner: st.dictionaries(_NAMES, st.one_of(_LEAVES, inner), max_size=4),
    max_leaves=12,
)

Objects = dict["Checksum", "tuple[bytes, ObjectID | None]"]


class DictBase:
    """A base with given objects."""

    def __init__(self, objects: Objects) -> None:
        self.objects = objects

    def find(self, checksum: Checksum) -> tuple[bytes, ObjectID | None] | None:
        return self.objects.get(checksum)


def stored_form(repository: FakeOstreeRepository) -> Objects:
    """Return all objects as commit streams hold them."""
    found: Objects = {}
    for (checksum, kind), data in repository.objects.items():
        if kind is ObjectKind.FILE:
            length = parse_header_length(data)
            body = data[length:]
            found[checksum] = (data[:length] + (zlib.decompress(body, -15) if body else b""), None)
        else:
            found[checksum] = (data, None)
    return found


def reachable(repository: FakeOstreeRepository, commit: Checksum) -> set[Checksum]:
    """Return the names of all objects of a commit, found by a plan that has everything in a base."""
    plan = PullPlan(commit)
    plan.add_base(DictBase(stored_form(repository)))
    assert plan.next_request() is None
    assert not plan.take_files()
    plan.check_complete()
    return set(plan.objects)


@given(_TREES, _TREES, st.lists(st.booleans(), max_size=40), st.randoms(use_true_random=False))
def test_every_plan_ends_complete(
    tree: dict[str, object], other: dict[str, object], kept: list[bool], random: Random
) -> None:
    repository = FakeOstreeRepository()
    commit = repository.commit(tree)  # type: ignore[arg-type]  # hypothesis cannot say how deep it is
    only_this = set(repository.objects)
    repository.commit(other, timestamp_s=1)  # type: ignore[arg-type]  # the same
    stored = stored_form(repository)
    base = {
        name: found for name, found in stored.items() if name != commit and (not kept or random.choice(kept))
    }

    plan = PullPlan(commit)
    plan.add_base(DictBase(base))
    in_flight: list[tuple[Checksum, ObjectKind]] = []
    files: list[Checksum] = []
    asked: list[Checksum] = []
    while True:
        while (wanted := plan.next_request()) is not None:
            in_flight.append(wanted)
            asked.append(wanted[0])
        files += (fresh := plan.take_files())
        asked += fresh
        if not in_flight and not files:
            break
        if files and (not in_flight or random.random() < 0.5):
            file = files.pop(random.randrange(len(files)))
            plan.deliver_files([(file, *stored[file])])
        else:
            checksum, kind = in_flight.pop(random.randrange(len(in_flight)))
            plan.deliver(checksum, kind, repository.objects[checksum, kind])

    plan.check_complete()
    assert len(asked) == len(set(asked))
    assert not set(asked) & set(base)
    assert {(name, kind) for name, kind in only_this} >= {
        key for key in repository.objects if key[0] in asked
    }
    assert plan.objects == {name: stored[name] for name in reachable(repository, commit)}
    counts = plan.counts
    assert counts.metadata + counts.files == len(asked)
    assert counts.metadata + counts.files + counts.from_base == len(plan.objects)


class TrueBase(DictBase):
    """A base that vouches for some of its files."""

    def __init__(self, objects: Objects, vouched: set[Checksum]) -> None:
        super().__init__(objects)
        self.lender = cast("Lender", DictBase(objects))
        self.vouched = vouched

    def find_true(self, checksums: set[Checksum]) -> set[Checksum]:
        return checksums & self.vouched


@given(_TREES, _TREES, st.randoms(use_true_random=False))
def test_what_is_vouched_for_makes_the_same_plan(
    tree: dict[str, object], other: dict[str, object], random: Random
) -> None:
    """Whatever is taken at once, the plan has and wants the same as if it took objects one by one."""
    repository = FakeOstreeRepository()
    repository.commit(tree)  # type: ignore[arg-type]  # hypothesis cannot say how deep it is
    base = stored_form(repository)
    files = {name for name, kind in repository.objects if kind is ObjectKind.FILE}
    commit = repository.commit(other, timestamp_s=1)  # type: ignore[arg-type]  # the same
    base.pop(commit, None)
    plans = []
    for chosen in (None, {name for name in files if random.random() < 0.7}):
        plan = PullPlan(commit)
        plan.add_base(DictBase(base) if chosen is None else TrueBase(base, chosen))
        repository.fetch_metadata(plan.next_request, plan.deliver)
        found = (dict(plan.objects), sorted(plan.take_files()), plan.counts)
        plan.take_back({name for name in files if name[0] < 64})
        plans.append((*found, sorted(plan.take_files()), plan.counts))
    assert plans[0] == plans[1]
