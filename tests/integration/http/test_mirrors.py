"""Several addresses of one repository: each object is had from whichever server has it."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import CfsError
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.remote import RemoteSource
from tests.fakes.faulty_server import FaultyServer, respond, stall
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.integration.http.jobs import QUICK, SILENT
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum
    from cfsctl.http.fetcher import Limits
    from cfsctl.ostree.pull.pull import PullResult
    from tests.fakes.faulty_server import Reaction
    from tests.fakes.ostree_repository import Tree

TREE: Tree = {"etc": {f"file{number}": f"content {number} ".encode() * 50 for number in range(12)}}


class Pair:
    """Two servers with the same repository, each in a directory of its own."""

    def __init__(self, work: Path) -> None:
        origin = FakeOstreeRepository()
        self.commit: Checksum = origin.commit(TREE, "x")
        self.roots = [work / "one", work / "two"]
        self.servers = []
        for root in self.roots:
            origin.write(root)
            self.servers.append(FaultyServer(root))
        kinds = {kind: checksum for checksum, kind in origin.objects}
        self.paths = {kind: loose_path(checksum, kind) for kind, checksum in kinds.items()}
        self.store = work / "store"

    def pull(
        self,
        transport: Transport,
        first: str,
        mirrors: list[str],
        content: list[str] | None = None,
        limits: Limits = QUICK,
    ) -> PullResult:
        fetcher = open_fetcher(limits, transport=transport)
        source = RemoteSource(first, fetcher, mirrors=mirrors, content_urls=content or [])
        shutil.rmtree(self.store, ignore_errors=True)
        try:
            with make_repository(self.store) as repository:
                return pull(repository, source, "x", PullOptions(workers=0))
        finally:
            source.close()

    def asked(self, number: int, kind: str) -> int:
        return sum(count for path, count in self.servers[number].counts.items() if kind in path)


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(tmp_path)
    with pair.servers[0], pair.servers[1]:
        yield pair


def urls(pair: Pair) -> list[str]:
    return [server.url for server in pair.servers]


def test_the_first_is_enough(pair: Pair, transport: Transport) -> None:
    first, second = urls(pair)
    assert pair.pull(transport, first, [second]).commit == pair.commit
    assert pair.asked(1, ".filez") == pair.asked(1, ".dirtree") == pair.asked(1, "refs") == 0


@pytest.mark.parametrize("kind", ObjectKind)
def test_an_object_that_the_first_lacks(pair: Pair, transport: Transport, kind: ObjectKind) -> None:
    (pair.roots[0] / pair.paths[kind]).unlink()
    first, second = urls(pair)
    assert pair.pull(transport, first, [second]).commit == pair.commit
    assert [path for path in pair.servers[1].counts if "objects" in path and "commitmeta" not in path] == [
        "/" + pair.paths[kind]
    ]


def test_a_ref_that_the_first_lacks(pair: Pair, transport: Transport) -> None:
    (pair.roots[0] / "refs/heads/x").unlink()
    first, second = urls(pair)
    assert pair.pull(transport, first, [second]).commit == pair.commit


@pytest.mark.parametrize(
    ("fault", "limits"), [(respond(b"busy", 500), QUICK), (stall(), SILENT)], ids=["500", "stall"]
)
def test_a_server_that_fails_is_left(
    pair: Pair, transport: Transport, fault: Reaction, limits: Limits
) -> None:
    for path in (pair.roots[0] / "objects").rglob("*.filez"):
        pair.servers[0].on("/" + str(path.relative_to(pair.roots[0])), fault)
    first, second = urls(pair)
    assert pair.pull(transport, first, [second], limits=limits).commit == pair.commit
    # Only what was on its way when the first failure was final is asked for in vain.
    assert pair.asked(0, ".filez") <= QUICK.connections_max * QUICK.attempts
    assert pair.asked(1, ".filez") == len(TREE["etc"])


def test_a_server_that_is_not_there(pair: Pair, transport: Transport) -> None:
    _, second = urls(pair)
    assert pair.pull(transport, "http://127.0.0.1:1/repo", [second]).commit == pair.commit


def test_the_error_of_the_last_one_is_told(pair: Pair, transport: Transport) -> None:
    for root in pair.roots:
        (root / pair.paths[ObjectKind.DIRMETA]).unlink()
    first, second = urls(pair)
    with pytest.raises(CfsError, match=r"dirmeta object .* is missing from "):
        pair.pull(transport, first, [second])
    assert pair.servers[0].counts["/" + pair.paths[ObjectKind.DIRMETA]] == 1
    assert pair.servers[1].counts["/" + pair.paths[ObjectKind.DIRMETA]] == 1


def test_content_comes_from_elsewhere(pair: Pair, transport: Transport) -> None:
    first, second = urls(pair)
    shutil.rmtree(pair.roots[0] / "objects")
    shutil.rmtree(pair.roots[1] / "refs")
    assert pair.pull(transport, first, [], [second]).commit == pair.commit
    assert pair.asked(1, "refs") == pair.asked(0, ".filez") == 0


def test_a_mirrorlist(pair: Pair, transport: Transport) -> None:
    first, second = urls(pair)
    (pair.roots[0] / pair.paths[ObjectKind.FILE]).unlink()
    text = f"# mirrors\n\nftp://elsewhere/\n  {first}/\n{second}\n"
    pair.servers[1].on("/mirrors", respond(text.encode()))
    assert pair.pull(transport, f"mirrorlist={second}/mirrors", []).commit == pair.commit


@pytest.mark.parametrize("body", [b"", b"# nothing\n", b"<!DOCTYPE html>"])
def test_a_mirrorlist_that_is_none(pair: Pair, transport: Transport, body: bytes) -> None:
    pair.servers[1].on("/mirrors", respond(body))
    with pytest.raises(
        CfsError, match=r"mirrorlist http.*: expected at least one http or https URL, found none"
    ):
        pair.pull(transport, f"mirrorlist={urls(pair)[1]}/mirrors", [])
