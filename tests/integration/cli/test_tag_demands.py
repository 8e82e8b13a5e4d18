"""Commands that move tags by hand say what was demanded of them, and leave that to the next pull."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.programs import run_cfsctl
from tests.support.repositories import make_repository
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from pathlib import Path

VENDOR = Ed25519PrivateKey.generate()
POLICY = TrustPolicy(
    commits=Requirement(engines=("ed25519",)),
    keys=[SignKey("ed25519", VENDOR.public_key().public_bytes_raw())],
)


@pytest.fixture
def fake() -> FakeOstreeRepository:
    return FakeOstreeRepository()


@pytest.fixture
def store(tmp_path: Path, fake: FakeOstreeRepository) -> str:
    """Return a repository with `stable`, verified, and `else`, which is not; a third one waits outside."""
    good = fake.commit({"file": b"good"}, "stable", timestamp_s=1_600_000_000)
    fake.detached[good] = sign_detached(VENDOR, fake.objects[good, ObjectKind.COMMIT])
    fake.commit({"file": b"else"}, "else", timestamp_s=1_650_000_000)
    with make_repository(tmp_path / "store") as repository:
        pull(repository, fake, "stable", PullOptions(workers=0, trust=POLICY))
        pull(repository, fake, "else", PullOptions(workers=0))
    fake.commit({"file": b"bad"}, "stable", timestamp_s=1_700_000_000)
    (tmp_path / "outside").mkdir()
    fake.write(tmp_path / "outside")
    return str(tmp_path / "store")


def test_tag_by_hand_is_obeyed_said_and_forgets_nothing(store: str, tmp_path: Path) -> None:
    done = run_cfsctl("--repo", store, "ostree", "tag", "else", "stable")
    assert done.returncode == 0
    assert "tag 'stable'" in done.stderr
    assert "expected a commit that is verified" in done.stderr
    assert done.stdout == "Tagged else as stable\n"
    outside = str(tmp_path / "outside")
    refused = run_cfsctl("--repo", store, "ostree", "pull-local", outside, "stable")
    assert refused.returncode == 14
    assert "--allow-unverified" in refused.stderr
    allowed = run_cfsctl("--repo", store, "ostree", "pull-local", "--allow-unverified", outside, "stable")
    assert allowed.returncode == 0


@pytest.mark.parametrize("names", [("else", "fresh"), ("stable", "stable"), ("stable", "else")])
def test_tag_says_nothing_where_nothing_is_lost(store: str, names: tuple[str, str]) -> None:
    done = run_cfsctl("--repo", store, "ostree", "tag", *names)
    assert done.returncode == 0
    assert "requirement" not in done.stderr
    assert done.stderr.count("\n") == (1 if names == ("stable", "else") else 0)  # that the tag is moved


def test_a_commit_of_our_own_is_said_to_be_unverified(store: str, tmp_path: Path) -> None:
    (tmp_path / "tree/usr").mkdir(parents=True)
    assert run_cfsctl("--repo", store, "create-image", str(tmp_path / "tree"), "own").returncode == 0
    done = run_cfsctl("--repo", store, "ostree", "commit", "own", "--reference", "stable")
    assert done.returncode == 0
    assert "the next pull must meet this requirement" in done.stderr
    refused = run_cfsctl(
        "--repo", store, "ostree", "pull-local", "--allow-downgrade", str(tmp_path / "outside"), "stable"
    )
    assert refused.returncode == 14


@pytest.mark.parametrize("hash_name", ["sha256", "sha512"])
def test_copy_is_refused_and_may_be_allowed(store: str, tmp_path: Path, hash_name: str) -> None:
    other, outside = str(tmp_path / "other"), str(tmp_path / "outside")
    run_cfsctl("--repo", other, "--hash", hash_name, "init", "--insecure")
    assert run_cfsctl("--repo", other, "ostree", "pull-local", outside, "stable").returncode == 0
    for names in (("stable",), ("else", "--as", "stable")):
        if names[0] == "else":
            run_cfsctl("--repo", other, "ostree", "pull-local", outside, "else")
        refused = run_cfsctl("--repo", other, "copy", names[0], store, *names[1:])
        assert refused.returncode == 14, refused.stderr
        assert "as when it was set" in refused.stderr
    assert run_cfsctl("--repo", other, "copy", "stable", store, "--as", "fresh").returncode == 0
    assert run_cfsctl("--repo", other, "copy", "--allow-unverified", "stable", store).returncode == 0
