"""Whole pulls from servers with faults: one clear error, nothing named, and the next pull finishes it."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Algorithm
from cfsctl.errors import CfsError
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.delta.format import index_path
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.pull.pull import PullResult, pull
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.repository import Repository, init_repository
from tests.fakes.faulty_server import FaultyServer, announce, endless, respond, stall, unannounced
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.integration.http.jobs import QUICK, SILENT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.http.fetcher import Limits
    from tests.fakes.faulty_server import Reaction
    from tests.fakes.ostree_repository import Tree

HTML = b"<!DOCTYPE html><html><head><title>Login</title></head><body>Log in.</body></html>\n"

CONTENT = {f"file{number}": f"content {number} ".encode() * 50 for number in range(12)}
TREE: Tree = {"etc": CONTENT, "link": "etc", "large": bytes(3_000_000)}


class Site:
    """A good repository, and where each kind of object of it is on the server."""

    def __init__(self, root: Path) -> None:
        self.origin = FakeOstreeRepository()
        self.root = root
        self.commit = self.origin.commit(TREE, "x")
        self.origin.write(root)
        self.bodies: dict[str, bytes] = {"/refs/heads/x": self.commit.hex().encode() + b"\n"}
        self.paths: dict[ObjectKind, str] = {}
        for (checksum, kind), body in self.origin.objects.items():
            path = "/" + loose_path(checksum, kind)
            self.bodies[path] = body
            self.paths[kind] = path


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path / "site")


@pytest.fixture
def server(site: Site) -> Iterator[FaultyServer]:
    with FaultyServer(site.root) as server:
        yield server


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    path = str(tmp_path / "store")
    init_repository(path, algorithm=Algorithm.SHA256, insecure=True)
    with Repository.open(path) as repository:
        yield repository


def run_pull(
    repository: Repository, server: FaultyServer, transport: Transport, limits: Limits = QUICK
) -> PullResult:
    source = RemoteSource(server.url, open_fetcher(limits, transport=transport))
    try:
        return pull(repository, source, "x")
    finally:
        source.close()


@pytest.mark.parametrize("kind", ObjectKind)
@pytest.mark.parametrize("fault", [respond(b"busy", 503), announce(9999, b"part")], ids=["503", "short"])
def test_a_fault_that_passes(
    repository: Repository,
    site: Site,
    server: FaultyServer,
    transport: Transport,
    kind: ObjectKind,
    fault: Reaction,
) -> None:
    path = site.paths[kind]
    server.on(path, fault, respond(site.bodies[path]))
    assert run_pull(repository, server, transport).commit == site.commit
    assert server.counts[path] == 2


FAULTS: dict[str, Reaction] = {
    "503": respond(b"busy", 503),
    "404": respond(b"", 404),
    "html": respond(HTML),
    "other-bytes": respond(b"other bytes"),
    "nothing": respond(b""),
    "short": announce(9999, b"part"),
    "short-without-length": unannounced(b"par"),
    "stall": stall(),
    "stall-in-body": stall(b"par", 9999),
}

# What waits for silence takes its time: one kind of object for each is enough every time.
SILENCES = {("stall", ObjectKind.COMMIT), ("stall-in-body", ObjectKind.FILE)}
LASTING = [
    pytest.param(
        fault,
        kind,
        id=f"{fault}-{kind.label}",
        marks=[pytest.mark.deep] if "stall" in fault and (fault, kind) not in SILENCES else [],
    )
    for fault, kind in itertools.product(FAULTS, ObjectKind)
]


@pytest.mark.parametrize(("fault", "kind"), LASTING)
def test_a_fault_that_stays_and_is_repaired(
    repository: Repository,
    site: Site,
    server: FaultyServer,
    transport: Transport,
    fault: str,
    kind: ObjectKind,
) -> None:
    path = site.paths[kind]
    server.on(path, FAULTS[fault])
    with pytest.raises(CfsError) as caught:
        run_pull(repository, server, transport, SILENT if "stall" in fault else QUICK)
    name = path.rpartition("/")[2].partition(".")[0]
    assert name in str(caught.value)
    assert kind.label in str(caught.value)
    assert not [s for s in repository.streams.list_streams() if s.name.startswith("ostree-commit-")]
    fetched = server.counts.copy()
    server.on(path, respond(site.bodies[path]))
    assert run_pull(repository, server, transport).commit == site.commit
    assert server.counts[path] == fetched[path] + 1


@pytest.mark.parametrize("kind", ObjectKind)
def test_an_endless_object(
    repository: Repository,
    site: Site,
    server: FaultyServer,
    transport: Transport,
    kind: ObjectKind,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cfsctl.ostree.sources.remote.MAX_METADATA_SIZE", 1 << 20)
    path = site.paths[kind]
    server.on(path, endless(site.bodies[path]))
    with pytest.raises(CfsError, match=kind.label):
        run_pull(repository, server, transport)
    assert server.counts[path] == 1


PAGES = [
    HTML,
    b"\xef\xbb\xbf<html>",
    b"\n <!-- app -->\n<!DOCTYPE HTML>",
    b"<?xml version='1.0'?><Error/>",
    b"<Error></Error>",
]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_in_place_of_what_is_optional(
    repository: Repository, site: Site, server: FaultyServer, transport: Transport, page: bytes
) -> None:
    """As from a server that has one page for whatever is not there, and says 200."""
    digits = site.commit.hex()
    for path in (
        f"/objects/{digits[:2]}/{digits[2:]}.commitmeta",
        "/summary.sig",
        "/config",
        f"/{index_path(site.commit)}",
    ):
        server.on(path, respond(page))
    assert run_pull(repository, server, transport).commit == site.commit


def test_junk_in_place_of_detached_metadata_is_no_page(
    repository: Repository, site: Site, server: FaultyServer, transport: Transport
) -> None:
    digits = site.commit.hex()
    server.on(f"/objects/{digits[:2]}/{digits[2:]}.commitmeta", respond(b"junk"))
    with pytest.raises(CfsError, match="detached metadata of commit"):
        run_pull(repository, server, transport)


def test_a_login_page_in_place_of_everything(
    repository: Repository, site: Site, server: FaultyServer, transport: Transport
) -> None:
    for path in [*site.bodies, "/summary"]:
        server.on(path, respond(HTML))
    with pytest.raises(CfsError, match=r"^summary of ") as caught:
        run_pull(repository, server, transport)
    assert caught.value.hint is not None
    assert "log in" in caught.value.hint


def test_junk_after_a_file_is_refused(
    repository: Repository, site: Site, server: FaultyServer, transport: Transport
) -> None:
    path = site.paths[ObjectKind.FILE]
    server.on(path, unannounced(site.bodies[path] + b"junk"))
    with pytest.raises(CfsError, match="file object"):
        run_pull(repository, server, transport)
