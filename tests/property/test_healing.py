"""Whatever happens to objects between pulls, after a pull everything that the commit needs is sound."""

from __future__ import annotations

import os
import random
from typing import TYPE_CHECKING

import pytest

from cfsctl.fsverity.merkle import compute_digest
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.store.refs import open_commit
from cfsctl.repository import Repository
from cfsctl.repository.objects.verified import VERIFIED_NAME
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.repositories import flip_bit, make_repository, object_file

if TYPE_CHECKING:
    from pathlib import Path

_START_S = 1_700_000_000


class _Site:
    """A repository of the other side, ours, and what chance decides."""

    def __init__(self, path: Path, seed: int) -> None:
        self.path = path
        self.chance = random.Random(seed)
        self.remote = FakeOstreeRepository()
        self.remote.commit(self.make_tree(), "main")
        make_repository(path).close()

    def make_tree(self) -> dict[str, dict[str, bytes]]:
        """Return a tree that shares most files with the others."""
        chance = self.chance
        usr = {
            f"f{number}": b"file %d %d " % (number, 0 if chance.random() < 0.8 else chance.randrange(99)) * 50
            for number in range(40)
        }
        return {"usr": usr, "etc": {f"e{number}": b"x" * chance.randrange(300) for number in range(5)}}

    def pull(self) -> PullResult:
        with Repository.open(str(self.path)) as repository:
            if self.chance.random() < 0.7:  # as if everything had been left alone for a while
                now = repository.verified._now_ns
                repository.verified._now_ns = lambda: now() + 10**10
            return pull(repository, self.remote, "main", PullOptions(workers=0))

    def damage(self) -> None:
        chance = self.chance
        if chance.random() < 0.4:
            (self.path / VERIFIED_NAME).unlink(missing_ok=True)
        objects = sorted((self.path / "objects").glob("*/*"))
        for path in chance.sample(objects, chance.choice([0, 1, 3, 10, len(objects)])):
            size = path.stat().st_size
            match chance.randrange(4):
                case 0 if size:
                    flip_bit(path, chance.randrange(size))
                case 1 if size:
                    os.truncate(path, chance.randrange(size))
                case 2:
                    path.unlink()
                case _:
                    path.touch()

    def check(self, result: PullResult) -> None:
        with Repository.open(str(self.path)) as repository:
            stream = open_commit(repository, result.commit)
            for object_id in (*stream.object_refs, result.image_id, result.stream_id):
                content = object_file(repository, object_id).read_bytes()
                assert compute_digest(content, repository.algorithm) == object_id


@pytest.mark.parametrize("seed", range(12))
def test_everything_is_sound_after_a_pull(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int) -> None:
    # Also the ways that only large commits go, in other processes where there may be any.
    monkeypatch.setattr("cfsctl.repository.objects.reader._WORTH_WORKERS", 8)
    monkeypatch.setattr("cfsctl.repository.objects.reader._VERIFY_BATCH", 5)
    monkeypatch.setattr("cfsctl.repository.objects.reader._WORTH_A_PROCESS", 20)
    site = _Site(tmp_path / "store", seed)
    site.pull()
    for step in range(4):
        site.damage()
        if site.chance.random() < 0.7:
            site.remote.commit(site.make_tree(), "main", timestamp_s=_START_S + step)
        site.check(site.pull())
        assert site.pull().files_fetched == 0
