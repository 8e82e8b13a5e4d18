"""What a pull says before and after, for people and for programs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.ostree.delta.choice import Estimate, estimate_objects
from cfsctl.ostree.delta.store import LocalDeltas
from cfsctl.ostree.objects import Commit
from cfsctl.ostree.pull import dry_run as forecast_module
from cfsctl.ostree.pull.pull import PullOptions, estimate_pull, pull
from cfsctl.ostree.sources.local import LocalSource
from tests.support import schemas
from tests.support.programs import run_cfsctl
from tests.support.repositories import make_repository, view

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.repository import Repository

REF = "fixture/plain/x86_64"


@pytest.fixture
def source(fixture_path: Path) -> LocalSource:
    return LocalSource(str(fixture_path / "repo"))


def test_objects_are_counted_as_the_pull_fetches_them(repository: Repository, source: LocalSource) -> None:
    found = estimate_pull(repository, source, REF)
    assert (found.is_here, found.delta, found.fetch_bytes, found.has_room) == (False, None, None, None)
    result = pull(repository, source, REF, PullOptions(workers=0))
    assert found.commit == result.commit
    assert found.requests == result.metadata_fetched + result.files_fetched
    after = estimate_pull(repository, source, REF)
    assert (after.is_here, after.requests, after.has_room) == (True, 0, True)


def test_what_is_here_already_is_not_counted(
    repository: Repository, source: LocalSource, fixture_path: Path
) -> None:
    pull(repository, source, (fixture_path / "plain-1").read_text().strip(), PullOptions(workers=0))
    found = estimate_pull(repository, source, REF)
    result = pull(repository, source, REF, PullOptions(workers=0))
    assert 0 < found.requests == result.metadata_fetched + result.files_fetched < 100


def test_a_delta_is_chosen_as_the_pull_does(repository: Repository, source: LocalSource) -> None:
    deltas = LocalDeltas(source.description)
    found = estimate_pull(repository, source, REF, PullOptions(deltas=deltas))
    assert found.delta is not None
    assert found.delta.startswith("delta from nothing to ")
    result = pull(repository, source, REF, PullOptions(workers=0, deltas=deltas))
    assert (found.delta_parts, found.fetch_bytes) == (result.delta_parts, result.received_bytes)
    assert found.store_bytes is not None
    assert found.store_bytes > 900_000


def test_nothing_changes(tmp_path: Path, source: LocalSource) -> None:
    make_repository(tmp_path / "store").close()
    before = view(tmp_path / "store")
    for options in ((), ("--delta",), ("--subpath", "/usr")):
        done = run_cfsctl(
            "--repo", tmp_path / "store", "ostree", "pull-local", source.description, REF, "--plan", *options
        )
        assert done.returncode == 0, done.stderr
        assert view(tmp_path / "store") == before


def test_too_little_room(
    repository: Repository, source: LocalSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast_module, "count_free_bytes", lambda _: 1 << 20)
    found = estimate_pull(repository, source, REF, PullOptions(deltas=LocalDeltas(source.description)))
    assert found.has_room is False
    assert found.needed_bytes is not None
    assert found.needed_bytes > 1 << 20


def size_entry(number: int, *sizes: int) -> bytes:
    """Return an entry of `ostree.sizes`."""
    data = bytes([number]) * 32
    for size in sizes:
        value = size
        while value >= 0x80:
            data += bytes([value & 0x7F | 0x80])
            value >>= 7
        data += bytes([value])
    return data + b"\1"


def test_sizes_that_the_commit_says() -> None:
    entries: list[Any] = [size_entry(1, 300, 70_000), size_entry(2, 5, 9), size_entry(3, 1, 0)]

    def commit(*blobs: Any) -> Commit:  # noqa: ANN401 - bytes, as values of a GVariant
        sizes = ("ostree.sizes", Variant("aay", list(blobs)))
        return Commit((sizes,), None, "", "", 0, Checksum(b"t" * 32), Checksum(b"m" * 32))

    assert estimate_objects(commit(*entries), lambda _: False) == Estimate(306, 3, 70_009)
    assert estimate_objects(commit(*entries), lambda name: name[0] == 1) == Estimate(6, 2, 9)
    assert estimate_objects(commit(entries[0][:33]), lambda _: False) is None
    assert estimate_objects(commit(entries[0][:-3]), lambda _: False) is None
    assert estimate_objects(commit()._replace(metadata=()), lambda _: False) is None


def test_documents(tmp_path: Path, source: LocalSource, fixture_path: Path) -> None:
    make_repository(tmp_path / "store").close()
    key = ("--gpg-key", fixture_path / "fixture-key.gpg")
    command = ("--repo", tmp_path / "store", "ostree")

    def run(schema: str, *arguments: str | Path) -> dict[str, Any]:
        done = run_cfsctl(*command, *arguments, "--json")
        assert done.returncode == 0, done.stderr
        document: dict[str, Any] = json.loads(done.stdout)
        schemas.check(document, schema)
        return document

    plan = run("ostree-pull-plan", "pull-local", source.description, REF, "--plan", *key)
    result = run("ostree-pull", "pull-local", source.description, REF, *key)
    (planned,), (pulled,) = plan["plans"], result["commits"]
    assert planned["commit"] == pulled["commit"]
    assert planned["signatures"][0]["user"] == "Fixture Key <fixture@example.invalid>"
    assert planned["signatures"] == pulled["signatures"]
    assert len(pulled["signatures"]) == 1
    (verified,) = run("ostree-verify", "verify", REF, *key)["signatures"]
    assert verified == planned["signatures"][0]
    assert verified["user"] == planned["verified"][0]["user"]
    applied = run("ostree-pull", "apply-delta", fixture_path / "plain-1.inline-delta")
    assert applied["commits"][0]["delta_parts"] == 1
