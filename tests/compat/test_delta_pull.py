"""Deltas that `ostree` made, pulled from nginx and from a directory."""

from __future__ import annotations

import os
import shutil
from typing import TYPE_CHECKING, Any

import pytest

from cfsctl.digest import parse_checksum
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.delta.format import delta_directory
from cfsctl.ostree.delta.part import open_part
from cfsctl.ostree.delta.remote import RemoteDeltas
from cfsctl.ostree.delta.store import LocalDeltas
from cfsctl.ostree.pull.pull import PullOptions, PullResult, pull
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.progress import Message
from tests.support.deltas import TwoCommits, generate, make_two_commits
from tests.support.nginx import Nginx, run_nginx
from tests.support.ostree_client import require_ostree, run_ostree
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.progress import Event
    from cfsctl.repository import Repository

pytestmark = pytest.mark.compat


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> TwoCommits:
    require_ostree()
    return make_two_commits(tmp_path_factory.mktemp("ostree"))


@pytest.fixture
def repository(original: TwoCommits, tmp_path: Path) -> TwoCommits:
    """A copy of the repository, for a test to add deltas to."""
    path = tmp_path / "repo"
    shutil.copytree(original.path, path, symlinks=True)
    return original._replace(path=path)


@pytest.fixture
def nginx(repository: TwoCommits, tmp_path: Path) -> Iterator[Nginx]:
    work = tmp_path / "nginx"
    work.mkdir()
    with run_nginx(repository.path, work) as server:
        yield server


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Repository]:
    with make_repository(tmp_path / "store") as store:
        yield store


class Puller:
    """Pulls and remembers what was said."""

    def __init__(self, store: Repository, server: Nginx, transport: Transport | None = None) -> None:
        self.store = store
        self.source = RemoteSource(server.url, open_fetcher(transport=transport))
        self.said: list[str] = []

    def report(self, event: Event, /) -> None:
        if isinstance(event, Message):
            self.said.append(event.text)

    def pull(self, name: str, workers: int | None = None) -> PullResult:
        deltas = RemoteDeltas(self.source)
        try:
            return pull(
                self.store,
                self.source,
                name,
                PullOptions(deltas=deltas, workers=workers),
                reporter=self.report,
            )
        finally:
            self.source.close()


def requested(server: Nginx) -> dict[str, int]:
    """Return how many requests there were, by the first component of the path.

    The one for detached metadata, which every pull that fetches anything makes, is left out.
    """
    counts: dict[str, int] = {}
    for _, _, path in server.read_requests():
        if path.endswith(".commitmeta"):
            continue
        kind = path.split("/")[1]
        counts[kind] = counts.get(kind, 0) + 1
    return counts


def check_whole(store: Repository, repository: TwoCommits, result: PullResult, tmp_path: Path) -> None:
    with make_repository(tmp_path / "compared") as other:
        expected = pull(other, LocalSource(str(repository.path)), repository.second, PullOptions(workers=0))
    assert result.commit.hex() == repository.second
    assert (result.stream_id, result.image_id) == (expected.stream_id, expected.image_id)
    assert not store.objects.find_missing([result.image_id])


@pytest.mark.parametrize("transport", Transport)
@pytest.mark.parametrize("listed", ["summary", "index"])
@pytest.mark.parametrize("options", [("--max-chunk-size=1",), ("--inline",)], ids=["parts", "inline"])
def test_an_update_by_delta(
    repository: TwoCommits,
    nginx: Nginx,
    store: Repository,
    tmp_path: Path,
    transport: Transport,
    listed: str,
    options: tuple[str, ...],
) -> None:
    if transport is Transport.CURL:
        pytest.importorskip("pycurl", reason="pycurl is not installed (extra 'fast')")
    generate(repository, *options)
    if listed == "index":
        run_ostree(repository.path, "config", "set", "core.no-deltas-in-summary", "true")
    run_ostree(repository.path, "summary", "-u")
    pull(store, LocalSource(str(repository.path)), repository.first, PullOptions(workers=0))
    puller = Puller(store, nginx, transport)
    result = puller.pull("main")
    assert puller.said == []
    assert result.delta_parts > 0
    assert result.tag == "main"
    counts = requested(nginx)
    assert counts.get("delta-indexes", 0) == (listed == "index")
    assert "objects" not in counts
    check_whole(store, repository, result, tmp_path)


def test_a_first_pull_by_delta(
    repository: TwoCommits, nginx: Nginx, store: Repository, tmp_path: Path
) -> None:
    generate(repository, "--min-fallback-size=1", scratch=True)
    generate(repository)
    run_ostree(repository.path, "summary", "-u")
    result = Puller(store, nginx).pull("main")
    assert result.delta_parts > 0
    # The delta leaves the one large file to be fetched by itself.
    assert requested(nginx) == {"summary": 1, "deltas": 1 + result.delta_parts, "objects": 1}
    check_whole(store, repository, result, tmp_path)


def test_what_is_here_already_is_not_asked_for(
    repository: TwoCommits, nginx: Nginx, store: Repository
) -> None:
    generate(repository, scratch=True)
    run_ostree(repository.path, "summary", "-u")
    Puller(store, nginx).pull("main")
    before = len(nginx.read_requests())
    Puller(store, nginx).pull("main")
    assert [path for _, _, path in nginx.read_requests()[before:]] == ["/summary"]


def test_a_delta_from_nothing_is_left_when_a_commit_is_here(
    repository: TwoCommits, nginx: Nginx, store: Repository
) -> None:
    generate(repository, scratch=True)
    run_ostree(repository.path, "summary", "-u")
    pull(store, LocalSource(str(repository.path)), repository.first, PullOptions(workers=0))
    store.streams.set_ref("ostree/main", f"ostree-commit-{repository.first}")
    result = Puller(store, nginx).pull("main")
    assert result.delta_parts == 0
    assert "deltas" not in requested(nginx)


def test_objects_are_fetched_where_they_cost_less(store: Repository, tmp_path: Path) -> None:
    """The commit says how large its objects are, and the delta is said to be larger than all of them."""
    require_ostree()
    tree, path, work = tmp_path / "tree", tmp_path / "sized", tmp_path / "work"
    tree.mkdir()
    work.mkdir()
    (tree / "large").write_bytes(bytes(range(256)) * 8000)
    run_ostree(path, "init", "--mode=archive")
    commit = ("commit", "--branch=main", "--generate-sizes", f"--tree=dir={tree}")
    first = run_ostree(path, *commit).strip()
    (tree / "small").write_bytes(b"one line\n" * 4)
    repository = TwoCommits(path, first, run_ostree(path, *commit).strip())
    generate(repository)
    ends = parse_checksum(first), parse_checksum(repository.second)
    superblock = path / delta_directory(*ends) / "superblock"
    size = (superblock.parent / "0").stat().st_size.to_bytes(8, "little")
    data = superblock.read_bytes()
    assert data.count(size) == 1
    superblock.write_bytes(data.replace(size, (1 << 40).to_bytes(8, "little")))
    run_ostree(path, "summary", "-u")
    pull(store, LocalSource(str(path)), first, PullOptions(workers=0))
    with run_nginx(path, work) as server:
        result = Puller(store, server).pull("main")
        counts = requested(server)
    assert result.delta_parts == 0
    assert counts == {"summary": 1, "deltas": 1, "objects": 2}  # The superblock said what the parts cost.


@pytest.mark.parametrize("damage", ["part", "superblock", "no-part", "no-superblock", "digest", "html"])
def test_a_broken_delta_costs_nothing_but_time(
    repository: TwoCommits, nginx: Nginx, store: Repository, tmp_path: Path, damage: str
) -> None:
    generate(repository)
    directory = repository.path / delta_directory(
        parse_checksum(repository.first), parse_checksum(repository.second)
    )
    if damage == "digest":
        run_ostree(repository.path, "summary", "-u")
        generate(repository, "--disable-bsdiff")
    if damage != "digest":
        file = directory / ("0" if "part" in damage else "superblock")
        data = bytearray(file.read_bytes())
        if damage.startswith("no-"):
            run_ostree(repository.path, "summary", "-u")
            file.unlink()
        else:
            data[len(data) // 2] ^= 1
            file.write_bytes(b"<!DOCTYPE html><html></html>" if damage == "html" else data)
            run_ostree(repository.path, "summary", "-u")
    pull(store, LocalSource(str(repository.path)), repository.first, PullOptions(workers=0))
    puller = Puller(store, nginx)
    result = puller.pull("main")
    assert len(puller.said) == 1
    assert f"delta from {repository.first} to {repository.second}" in puller.said[0]
    assert "is not used: " in puller.said[0]
    assert "objects" in requested(nginx)
    check_whole(store, repository, result, tmp_path)


def test_a_delta_of_a_directory(repository: TwoCommits, store: Repository, tmp_path: Path) -> None:
    generate(repository)
    source = LocalSource(str(repository.path))
    pull(store, source, repository.first, PullOptions(workers=0))
    result = pull(store, source, "main", PullOptions(deltas=LocalDeltas(str(repository.path))))
    assert result.delta_parts > 0
    check_whole(store, repository, result, tmp_path)


def test_parts_that_were_run_are_not_fetched_again(
    repository: TwoCommits, nginx: Nginx, store: Repository, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pull that dies after the first part has what that part made in its journal."""
    generate(repository, "--max-chunk-size=1", "--min-fallback-size=0", scratch=True)
    run_ostree(repository.path, "summary", "-u")
    process = os.fork()
    if process == 0:
        calls: list[int] = []

        def fail_later(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - as the function it stands for
            if calls:
                os._exit(9)
            calls.append(1)
            return open_part(*arguments, **options)

        monkeypatch.setattr("cfsctl.ostree.delta.run.open_part", fail_later)
        try:
            Puller(store, nginx).pull("main", workers=0)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 9
    before = [path for _, _, path in nginx.read_requests() if "/deltas/" in path]
    assert len(before) == 3  # The superblock and two parts, of which the first was run.
    result = Puller(store, nginx).pull("main", workers=0)
    after = [path for _, _, path in nginx.read_requests() if "/deltas/" in path][len(before) :]
    assert before[1] not in after
    assert before[2] in after
    check_whole(store, repository, result, tmp_path)
