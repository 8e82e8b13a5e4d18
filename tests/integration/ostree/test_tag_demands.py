"""A tag keeps the demand that it was set under, and is not frozen by a time in the future."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl.errors import CfsError
from cfsctl.gvariant import Variant
from cfsctl.ostree.exchange.copy import copy_commit
from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.pull.pull import PullOptions, estimate_pull, pull
from cfsctl.ostree.store.binding import PolicyError
from cfsctl.ostree.store.partial_tags import drop_superseded, find_part_tag, untag
from cfsctl.ostree.store.refs import find_tag
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from cfsctl.ostree.trust.verdict import SignatureError
from cfsctl.repository.gc.collect import collect_garbage
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, make_repository, object_file, view
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.repository import Repository

VENDOR, OTHER = Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()


def trusting(*keys: Ed25519PrivateKey) -> TrustPolicy:
    sign_keys = [SignKey("ed25519", key.public_key().public_bytes_raw()) for key in keys]
    return TrustPolicy(commits=Requirement(engines=("ed25519",)), keys=sign_keys)


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as repository:
        yield repository


@pytest.fixture
def fake() -> FakeOstreeRepository:
    return FakeOstreeRepository()


def commit(
    fake: FakeOstreeRepository, content: bytes, time_s: int, key: Ed25519PrivateKey | None
) -> Checksum:
    made = fake.commit({"file": content}, "stable", timestamp_s=time_s)
    if key is not None:
        fake.detached[made] = sign_detached(key, fake.objects[made, ObjectKind.COMMIT])
    return made


@pytest.mark.parametrize("is_mirror", [False, True])
@pytest.mark.parametrize("is_stored", [False, True])
def test_a_verified_tag_is_not_moved_by_who_verifies_nothing(
    repository: Repository, fake: FakeOstreeRepository, *, is_mirror: bool, is_stored: bool
) -> None:
    good = commit(fake, b"good", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    bad = commit(fake, b"bad", 1_700_000_000, None)
    if is_stored:
        pull(repository, fake, bad.hex(), PullOptions(workers=0))
    for run in (pull, estimate_pull):
        with pytest.raises(SignatureError, match=r"tag 'stable', .* expected a commit that is verified"):
            run(repository, fake, "stable", PullOptions(is_mirror=is_mirror))
        assert find_tag(repository, "stable") == good
    pull(repository, fake, "stable", PullOptions(workers=0, is_mirror=is_mirror, allow_unverified=True))
    assert find_tag(repository, "stable") == bad
    commit(fake, b"worse", 1_750_000_000, None)
    pull(repository, fake, "stable", PullOptions(workers=0, is_mirror=is_mirror))


@pytest.mark.parametrize(
    ("keys", "is_mirror", "is_right"),
    [
        ([VENDOR, OTHER], True, True),
        ([OTHER], True, False),
        ([OTHER], False, True),
        ([VENDOR, OTHER], False, True),
    ],
)
def test_other_keys_move_what_the_user_has_named(
    repository: Repository,
    fake: FakeOstreeRepository,
    keys: list[Ed25519PrivateKey],
    *,
    is_mirror: bool,
    is_right: bool,
) -> None:
    good = commit(fake, b"good", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    other = commit(fake, b"other", 1_700_000_000, OTHER)
    if is_right:
        pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(*keys), is_mirror=is_mirror))
    else:
        with pytest.raises(SignatureError, match="signed by unrelated keys"):
            pull(
                repository, fake, "stable", PullOptions(workers=0, trust=trusting(*keys), is_mirror=is_mirror)
            )
    assert find_tag(repository, "stable") == (other if is_right else good)


def test_what_was_not_verified_is_moved_as_before(repository: Repository, fake: FakeOstreeRepository) -> None:
    commit(fake, b"one", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0))
    commit(fake, b"two", 1_700_000_000, None)
    pull(repository, fake, "stable", PullOptions(workers=0, is_mirror=True))
    three = commit(fake, b"three", 1_750_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR), is_mirror=True))
    pull(
        repository, fake, "stable", PullOptions(workers=0)
    )  # the same commit, which stays as verified as it was
    commit(fake, b"four", 1_760_000_000, None)
    with pytest.raises(SignatureError):
        pull(repository, fake, "stable", PullOptions(workers=0))
    assert find_tag(repository, "stable") == three


WITH_COMMITS = TrustPolicy(
    commits=Requirement(engines=("ed25519",)), keys=trusting(VENDOR).keys, collection_id="org.example.Os"
)
WITH_SUMMARIES = TrustPolicy(summaries=Requirement(engines=("ed25519",)), keys=trusting(VENDOR).keys)
WITH_COLLECTION = TrustPolicy(collection_id="org.example.Os")


def bound_commit(fake: FakeOstreeRepository, content: bytes, time_s: int) -> Checksum:
    metadata = (
        ("ostree.ref-binding", Variant("as", ["stable"])),
        ("ostree.collection-binding", Variant("s", "org.example.Os")),
    )
    made = fake.commit({"file": content}, "stable", timestamp_s=time_s, metadata=metadata)
    fake.detached[made] = sign_detached(VENDOR, fake.objects[made, ObjectKind.COMMIT])
    return made


@pytest.mark.parametrize(
    ("before", "now", "lacks"),
    [
        (WITH_SUMMARIES, None, "a summary that is verified"),
        (WITH_SUMMARIES, WITH_COLLECTION, "a summary that is verified"),
        (WITH_SUMMARIES, trusting(VENDOR), "a summary that is verified"),
        (WITH_SUMMARIES, WITH_SUMMARIES, None),
        (WITH_COLLECTION, None, "a commit of collection 'org.example.Os'"),
        (WITH_COLLECTION, trusting(VENDOR), "a commit of collection 'org.example.Os'"),
        (WITH_COLLECTION, WITH_COMMITS, None),
        (WITH_COMMITS, WITH_COLLECTION, "a commit that is verified"),
        (WITH_COMMITS, trusting(VENDOR), "a commit of collection"),
        (WITH_COMMITS, WITH_COMMITS, None),
        (None, None, None),
    ],
)
@pytest.mark.parametrize("is_part", [False, True])
def test_each_kind_of_demand_is_kept_by_itself(
    repository: Repository,
    fake: FakeOstreeRepository,
    before: TrustPolicy | None,
    now: TrustPolicy | None,
    lacks: str | None,
    *,
    is_part: bool,
) -> None:
    subpaths = ["/file"] if is_part else []
    bound_commit(fake, b"one", 1_600_000_000)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=before, subpaths=subpaths))
    pull(
        repository, fake, "stable", PullOptions(workers=0, subpaths=subpaths)
    )  # without a move nothing changes
    collect_garbage(repository, prepare=drop_superseded)
    two = bound_commit(fake, b"two", 1_700_000_000)
    if lacks is not None:
        with pytest.raises(PolicyError, match=lacks):
            pull(repository, fake, "stable", PullOptions(workers=0, trust=now, subpaths=subpaths))
        pull(
            repository,
            fake,
            "stable",
            PullOptions(workers=0, allow_unverified=True, trust=now, subpaths=subpaths),
        )
    else:
        pull(repository, fake, "stable", PullOptions(workers=0, trust=now, subpaths=subpaths))
    found = find_part_tag(repository, "stable") if is_part else find_tag(repository, "stable")
    assert found == two


def test_a_demand_outlives_a_stream_that_cannot_be_read(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    commit(fake, b"good", 1_600_000_000, VENDOR)
    found = pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    flip_bit(object_file(repository, found.stream_id), 100)
    commit(fake, b"bad", 1_700_000_000, None)
    with pytest.raises(SignatureError):
        pull(repository, fake, "stable", PullOptions(workers=0))
    assert find_tag(repository, "stable") == found.commit


@pytest.mark.parametrize(
    "content", [b"", b"[]", b"{", b"[" * 100_000, b'{"commits":[1]}', b"{}" + b" " * (1 << 21)]
)
def test_a_demand_that_cannot_be_read_is_not_passed_over(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path, content: bytes
) -> None:
    commit(fake, b"good", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    [path] = (tmp_path / "store" / ".cfsctl-tag-demands").iterdir()
    path.write_bytes(content)
    commit(fake, b"bad", 1_700_000_000, None)
    with pytest.raises(SignatureError, match="what was demanded of it"):
        pull(repository, fake, "stable", PullOptions(workers=0))
    pull(repository, fake, "stable", PullOptions(workers=0, allow_unverified=True))
    pull(repository, fake, "stable", PullOptions(workers=0))


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_is_no_file_does_not_stop_a_pull_for_ever(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path, kind: str
) -> None:
    commit(fake, b"good", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    [path] = (tmp_path / "store" / ".cfsctl-tag-demands").iterdir()
    path.unlink()
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to("/dev/zero")
    else:
        path.mkdir()
    commit(fake, b"bad", 1_700_000_000, None)
    with pytest.raises(SignatureError, match="what was demanded of it"):
        pull(repository, fake, "stable", PullOptions(workers=0))


def test_a_demand_goes_with_its_tag(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path
) -> None:
    demands = tmp_path / "store" / ".cfsctl-tag-demands"
    one = commit(fake, b"good", 1_600_000_000, VENDOR)
    for _ in range(2):
        pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
        assert len(list(demands.iterdir())) == 1
        untag(repository, "stable")
        assert not list(demands.iterdir())
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    (tmp_path / "store" / "streams/refs/ostree/stable").unlink()  # as the original does it
    kept = {path.name: path.read_bytes() for path in demands.iterdir()}
    two = commit(fake, b"other", 1_700_000_000, None)
    pull(repository, fake, "stable", PullOptions(workers=0))
    pull(repository, fake, "stable", PullOptions(workers=0))
    assert find_tag(repository, "stable") == two
    untag(repository, "stable")
    for name, data in kept.items():
        (demands / name).write_bytes(data)
    collect_garbage(repository, prepare=drop_superseded)
    assert not list(demands.iterdir())
    assert one != two


def test_a_tag_without_a_demand_is_not_bound_by_that_of_another_one(
    repository: Repository, fake: FakeOstreeRepository
) -> None:
    commit(fake, b"one", 1_600_000_000, VENDOR)
    fake.refs["heads/stable"] = fake.refs["stable"]
    pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
    pull(repository, fake, "heads/stable", PullOptions(workers=0))
    two = commit(fake, b"two", 1_700_000_000, None)
    fake.refs["heads/stable"] = two
    pull(repository, fake, "heads/stable", PullOptions(workers=0))
    assert find_tag(repository, "heads/stable") == two


@pytest.mark.parametrize("policy", [trusting(VENDOR), WITH_SUMMARIES, WITH_COLLECTION])
def test_a_copy_meets_the_demand_of_the_tag(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path, policy: TrustPolicy
) -> None:
    one = bound_commit(fake, b"one", 1_600_000_000)
    with make_repository(tmp_path / "other") as other:
        pull(repository, fake, "stable", PullOptions(workers=0, trust=policy))
        two = commit(fake, b"two", 1_700_000_000, VENDOR)
        pull(other, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
        pull(other, fake, "stable", PullOptions(workers=0, subpaths=["/file"]))
        objects = view(tmp_path / "store")
        with pytest.raises(PolicyError, match="as when it was set"):
            copy_commit(other, repository, two, "stable")
        with pytest.raises(PolicyError, match="as when it was set"):
            copy_commit(other, repository, two, "stable", from_scratch=True)
        assert find_tag(repository, "stable") == one
        assert view(tmp_path / "store") == objects
        copy_commit(other, repository, two, "else")
        copy_commit(other, repository, two, "stable", allow_unverified=True)
        assert find_tag(repository, "stable") == two
        three = commit(fake, b"three", 1_750_000_000, None)
        pull(repository, fake, "stable", PullOptions(workers=0))
        assert find_tag(repository, "stable") == three


def test_a_copy_of_what_was_verified_here_moves_the_tag(
    repository: Repository, fake: FakeOstreeRepository, tmp_path: Path
) -> None:
    commit(fake, b"one", 1_600_000_000, VENDOR)
    with make_repository(tmp_path / "other") as other:
        pull(repository, fake, "stable", PullOptions(workers=0, trust=trusting(VENDOR)))
        two = commit(fake, b"two", 1_700_000_000, VENDOR)
        pull(repository, fake, two.hex(), PullOptions(workers=0, trust=trusting(VENDOR)))
        pull(other, fake, "stable", PullOptions(workers=0))
        copy_commit(other, repository, two, "stable")
        assert find_tag(repository, "stable") == two
        commit(fake, b"three", 1_750_000_000, None)
        with pytest.raises(SignatureError):
            pull(repository, fake, "stable", PullOptions(workers=0))


@pytest.mark.parametrize("ahead_s", [3600, 100_000, 10**12, 2**62])
@pytest.mark.parametrize("is_first", [False, True])
def test_a_time_in_the_future_does_not_freeze_a_tag(
    repository: Repository, fake: FakeOstreeRepository, ahead_s: int, *, is_first: bool
) -> None:
    old = None
    if not is_first:
        old = commit(fake, b"old", 1_600_000_000, None)
        pull(repository, fake, "stable", PullOptions(workers=0))
    new = commit(fake, b"new", int(time.time()) + ahead_s, None)
    if ahead_s > 24 * 3600:
        with pytest.raises(CfsError, match="not made in the future") as caught:
            pull(repository, fake, "stable", PullOptions(workers=0))
        assert caught.value.exit_code == 14
        assert find_tag(repository, "stable") == old
    pull(repository, fake, "stable", PullOptions(workers=0, allow_downgrade=ahead_s > 24 * 3600))
    assert find_tag(repository, "stable") == new
