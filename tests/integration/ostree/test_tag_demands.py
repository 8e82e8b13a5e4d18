"""A tag keeps the demand that it was set under, and is not frozen by a time in the future."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl.errors import CfsError
from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.pull.pull import forecast, pull
from cfsctl.ostree.store.refs import find_tag
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from cfsctl.ostree.trust.verdict import SignatureError
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import make_repository
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
    pull(repository, fake, "stable", workers=0, trust=trusting(VENDOR))
    bad = commit(fake, b"bad", 1_700_000_000, None)
    if is_stored:
        pull(repository, fake, bad.hex(), workers=0)
    for run in (pull, forecast):
        with pytest.raises(SignatureError, match="tag 'stable': expected a commit that is verified"):
            run(repository, fake, "stable", is_mirror=is_mirror)
        assert find_tag(repository, "stable") == good
    pull(repository, fake, "stable", workers=0, is_mirror=is_mirror, allow_unverified=True)
    assert find_tag(repository, "stable") == bad
    commit(fake, b"worse", 1_750_000_000, None)
    pull(repository, fake, "stable", workers=0, is_mirror=is_mirror)


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
    pull(repository, fake, "stable", workers=0, trust=trusting(VENDOR))
    other = commit(fake, b"other", 1_700_000_000, OTHER)
    if is_right:
        pull(repository, fake, "stable", workers=0, trust=trusting(*keys), is_mirror=is_mirror)
    else:
        with pytest.raises(SignatureError, match="signed by unrelated keys"):
            pull(repository, fake, "stable", workers=0, trust=trusting(*keys), is_mirror=is_mirror)
    assert find_tag(repository, "stable") == (other if is_right else good)


def test_what_was_not_verified_is_moved_as_before(repository: Repository, fake: FakeOstreeRepository) -> None:
    commit(fake, b"one", 1_600_000_000, VENDOR)
    pull(repository, fake, "stable", workers=0)
    commit(fake, b"two", 1_700_000_000, None)
    pull(repository, fake, "stable", workers=0, is_mirror=True)
    three = commit(fake, b"three", 1_750_000_000, VENDOR)
    pull(repository, fake, "stable", workers=0, trust=trusting(VENDOR), is_mirror=True)
    pull(repository, fake, "stable", workers=0)  # the same commit, which stays as verified as it was
    commit(fake, b"four", 1_760_000_000, None)
    with pytest.raises(SignatureError):
        pull(repository, fake, "stable", workers=0)
    assert find_tag(repository, "stable") == three


@pytest.mark.parametrize("ahead_s", [3600, 100_000, 10**12, 2**62])
def test_a_time_in_the_future_does_not_freeze_a_tag(
    repository: Repository, fake: FakeOstreeRepository, ahead_s: int
) -> None:
    old = commit(fake, b"old", 1_600_000_000, None)
    pull(repository, fake, "stable", workers=0)
    new = commit(fake, b"new", int(time.time()) + ahead_s, None)
    if ahead_s > 24 * 3600:
        with pytest.raises(CfsError, match="not made in the future") as caught:
            pull(repository, fake, "stable", workers=0)
        assert caught.value.exit_code == 14
        assert find_tag(repository, "stable") == old
    pull(repository, fake, "stable", workers=0, allow_downgrade=ahead_s > 24 * 3600)
    assert find_tag(repository, "stable") == new
