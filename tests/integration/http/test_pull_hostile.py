"""Hostile repositories and deltas over HTTP, and a table of what servers do; all verdicts are met.

The repositories are pulled by the program as a user runs it, with limits of processor time and address space;
what a server does to single requests is tried in this process.
"""

from __future__ import annotations

import hashlib
import resource
import shutil
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import parse_checksum
from cfsctl.errors import CfsError
from cfsctl.gvariant import Variant
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.delta.format import MAX_SUPERBLOCK_BYTES, delta_directory
from cfsctl.ostree.delta.remote import RemoteDeltas
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.pull.pull import PullOptions, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from cfsctl.progress import Message
from cfsctl.repository import Repository
from tests.fakes.faulty_server import (
    FaultyServer,
    announce,
    drip,
    endless,
    redirect,
    respond,
    stall,
    unannounced,
)
from tests.integration.http.jobs import QUICK, SILENT
from tests.support.hostile import HOSTILE, names_in, read_verdicts, unpack_repositories
from tests.support.programs import run_cfsctl
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.http.fetcher import Limits
    from cfsctl.ostree.pull.pull import PullResult
    from cfsctl.progress import Event
    from tests.fakes.faulty_server import Reaction

LIMITS = {resource.RLIMIT_AS: 300 << 20, resource.RLIMIT_CPU: 10}

UNVERIFIED = {"summary-other-ref": "accepted"}
"""Refused only where the summary has to be verified."""

INDIVIDUAL = {"downgrade"}
"""Has a test of its own for local pulls, which is about refs and not about the way."""


REPOSITORIES = read_verdicts("verdicts.tsv")
DELTAS = read_verdicts("deltas.tsv")


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return unpack_repositories(tmp_path_factory.mktemp("hostile"))


@pytest.mark.parametrize("case", sorted(set(REPOSITORIES) - INDIVIDUAL))
def test_repository(hostile: Path, tmp_path: Path, case: str) -> None:
    verdict = UNVERIFIED.get(case, REPOSITORIES[case])
    store = tmp_path / "store"
    make_repository(store).close()
    with FaultyServer(hostile) as server:
        done = run_cfsctl("--repo", store, "ostree", "pull", f"{server.url}/{case}", "x", limits=LIMITS)
    if verdict == "accepted" or (verdict != "refused" and done.returncode == 0):
        assert done.returncode == 0, done.stderr
        assert any(name.startswith("streams/refs/ostree/") for name in names_in(store))
        return
    assert done.returncode > 2
    assert done.stdout == ""
    assert done.stderr.startswith("Error: ")
    assert "Traceback" not in done.stderr
    assert names_in(store) == []
    with Repository.open(str(store)) as repository:
        assert pull(repository, LocalSource(str(hostile / "good")), "x", PullOptions(workers=0)).tag == "x"


class Site:
    """The good repository on a server that also has a delta, and a store to pull into."""

    def __init__(self, hostile: Path, store: Path, *, is_update: bool) -> None:
        self.good = (hostile / "good/refs/heads/x").read_text().strip()
        root = hostile / ("delta-target" if is_update else "good")
        self.ref_file = (root / "refs/heads/x").read_bytes()
        self.commit = self.ref_file.decode().strip()
        ends = parse_checksum(self.good) if is_update else None, parse_checksum(self.commit)
        self.path = f"/{delta_directory(*ends)}/superblock"
        self.name = f"{self.good}-{self.commit}" if is_update else self.commit
        self.server = FaultyServer(root)
        self.store = store
        self.said: list[str] = []
        with make_repository(store) as repository:
            if is_update:
                pull(repository, LocalSource(str(hostile / "good")), self.good, PullOptions(workers=0))
        commit = (root / loose_path(parse_checksum(self.commit), ObjectKind.COMMIT)).read_bytes()
        self.commit_body = commit
        self.commit_path = "/" + loose_path(parse_checksum(self.commit), ObjectKind.COMMIT)

    def summary(self, digest: bytes) -> bytes:
        listed = Variant("a{sv}", [(self.name, Variant("ay", digest))])
        ref = SummaryRef("x", parse_checksum(self.commit), len(self.commit_body), ())
        return format_summary(Summary({"x": ref}, [("ostree.static-deltas", listed)]))

    def report(self, event: Event, /) -> None:
        if isinstance(event, Message):
            self.said.append(event.text)

    def pull(self, transport: Transport = Transport.REQUESTS, limits: Limits = QUICK) -> PullResult:
        source = RemoteSource(self.server.url, open_fetcher(limits, transport=transport))
        try:
            with Repository.open(str(self.store)) as repository:
                return pull(
                    repository,
                    source,
                    "x",
                    PullOptions(workers=0, deltas=RemoteDeltas(source)),
                    reporter=self.report,
                )
        finally:
            source.close()


def starts_from_good(case: str) -> bool:
    return case.startswith("patch-") or case == "write-from-source"


@pytest.mark.parametrize("digest", ["listed", "wrong"])
@pytest.mark.parametrize("case", sorted(DELTAS))
def test_delta(hostile: Path, tmp_path: Path, case: str, digest: str) -> None:
    """The pull succeeds whatever the delta is; a good one is used, another one is named and not used."""
    site = Site(hostile, tmp_path / "store", is_update=starts_from_good(case))
    superblock = (HOSTILE / "deltas" / case).read_bytes()
    site.server.on(site.path, respond(superblock))
    listed = hashlib.sha256(superblock).digest() if digest == "listed" else bytes(32)
    site.server.on("/summary", respond(site.summary(listed)))
    with site.server:
        result = site.pull()
    assert result.commit.hex() == site.commit
    assert result.tag == "x"
    is_good = digest == "listed" and DELTAS[case] == "accepted"
    if is_good:
        assert (site.said, result.delta_parts) == ([], 1)
        objects = [path for path in site.server.counts if path.startswith("/objects/")]
        assert [path.rpartition(".")[2] for path in objects] == ["commitmeta"]
    elif digest == "wrong" or (DELTAS[case] == "refused" and case != "object-missing"):
        assert len(site.said) == 1
        assert "is not used: " in site.said[0]
    with make_repository(tmp_path / "other") as other:
        name = "delta-target" if starts_from_good(case) else "good"
        expected = pull(other, LocalSource(str(hostile / name)), "x", PullOptions(workers=0))
    assert (result.stream_id, result.image_id) == (expected.stream_id, expected.image_id)


HTML = b"<!DOCTYPE html><html><head><title>Login</title></head><body>Log in.</body></html>\n"


def faults(body: bytes) -> dict[str, Reaction]:
    """Return what a server may do in place of sending a body."""
    half = body[: len(body) // 2]
    return {
        "503": respond(b"busy", 503),
        "403": respond(b"no", 403),
        "html": respond(HTML),
        "stall": stall(),
        "stall-in-body": stall(half, len(body)),
        "drip": drip(body, 0.5),
        "short": announce(len(body), half),
        "short-without-length": unannounced(half),
        "junk-without-length": unannounced(body + b"junk"),
        "endless": endless(body),
        "304": respond(b"", 304),
        "redirect-to-file": redirect("file:///etc/passwd"),
    }


FAULTS = sorted(faults(b"12"))
SILENCES = {"stall", "stall-in-body", "drip"}
IMPATIENT = {fault: SILENT if fault in SILENCES else QUICK for fault in FAULTS}


def each_fault(*quick: str) -> list[object]:
    """Return the faults as parameters; those that wait for silence are deep, but for some."""
    return [
        pytest.param(fault, marks=[pytest.mark.deep] if fault in SILENCES.difference(quick) else [])
        for fault in FAULTS
    ]


@pytest.fixture
def site(hostile: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A site whose delta is good; what is endless ends earlier than for users."""
    monkeypatch.setattr("cfsctl.ostree.delta.remote.MAX_SUPERBLOCK_BYTES", 1 << 20)
    monkeypatch.setattr("cfsctl.ostree.sources.summary_reader.MAX_SUMMARY_SIZE", 1 << 20)
    site = Site(hostile, tmp_path / "store", is_update=False)
    superblock = (HOSTILE / "deltas/good").read_bytes()
    site.server.on(site.path, respond(superblock))
    site.server.on("/summary", respond(site.summary(hashlib.sha256(superblock).digest())))
    with site.server:
        yield site


def test_the_real_limit_of_a_superblock() -> None:
    assert MAX_SUPERBLOCK_BYTES == 128 << 20


@pytest.mark.parametrize("fault", each_fault("drip"))
def test_superblock_that_cannot_be_had(site: Site, transport: Transport, fault: str) -> None:
    """Objects take the place of the delta, and the reason is told."""
    site.server.on(site.path, faults((HOSTILE / "deltas/good").read_bytes())[fault])
    result = site.pull(transport, IMPATIENT[fault])
    assert result.commit.hex() == site.commit
    assert result.delta_parts == 0
    assert len(site.said) == 1
    assert site.said[0].startswith(f"delta from nothing to {site.commit} is not used: ")
    assert site.server.counts[site.path] <= QUICK.attempts


@pytest.mark.parametrize("resource_name", ["summary", "ref"])
@pytest.mark.parametrize("fault", each_fault("stall"))
def test_name_that_cannot_be_resolved(site: Site, resource_name: str, fault: str) -> None:
    """One error that names the resource, nothing stored under a name, and the next pull succeeds."""
    good = respond(b"", 404)
    path, body = "/summary", site.summary(bytes(32))
    if resource_name == "ref":
        site.server.on("/summary", good)
        path, body = "/refs/heads/x", site.ref_file
    site.server.on(path, faults(body)[fault])
    if (resource_name, fault) == ("summary", "403"):
        # A server without permission to list says this of a summary that is not there.
        assert site.pull().commit.hex() == site.commit
        return
    with pytest.raises(CfsError, match=rf"^{resource_name}\b") as caught:
        site.pull(limits=IMPATIENT[fault])
    assert caught.value.exit_code > 2
    assert names_in(site.store) == []
    site.server.on(path, respond(body) if resource_name == "ref" else good)
    assert site.pull().commit.hex() == site.commit


def test_a_redirect_loop_ends(site: Site, transport: Transport) -> None:
    site.server.on(site.path, respond(b"", 404))
    site.server.on(site.commit_path, redirect(site.commit_path))
    with pytest.raises(CfsError, match=f"commit object {site.commit}: .*redirects"):
        site.pull(transport)
    assert site.server.counts[site.commit_path] == QUICK.redirects + 1


def test_busy_once_is_tried_again(site: Site, transport: Transport) -> None:
    superblock = (HOSTILE / "deltas/good").read_bytes()
    site.server.on(site.path, respond(b"busy", 503), respond(superblock))
    result = site.pull(transport)
    assert (result.delta_parts, site.said) == (1, [])
    assert site.server.counts[site.path] == 2


def test_more_than_announced_is_ignored(site: Site, transport: Transport) -> None:
    superblock = (HOSTILE / "deltas/good").read_bytes()
    site.server.on(site.path, announce(len(superblock), superblock + b"more"))
    assert site.pull(transport).delta_parts == 1


def test_a_captive_portal(site: Site, transport: Transport) -> None:
    """Every path has the same page, those that do not exist too."""
    shutil.rmtree(site.store)
    make_repository(site.store).close()
    for path in ["/summary", "/refs/heads/x", site.path, site.commit_path]:
        site.server.on(path, respond(HTML))
    with pytest.raises(CfsError, match=r"^summary of ") as caught:
        site.pull(transport)
    assert "log in" in (caught.value.hint or "")
    assert names_in(site.store) == []
