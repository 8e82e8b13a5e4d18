"""Our source against a repository that `ostree` made and nginx serves."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import RefNotFoundError
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.fetcher import Options
from cfsctl.ostree.objects import ObjectKind, loose_path, parse_commit, parse_dirtree
from cfsctl.ostree.sources.remote import RemoteSource
from tests.support.certificates import Certificate, make_certificate
from tests.support.nginx import Nginx, run_nginx
from tests.support.ostree_client import require_ostree, run_ostree

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum

pytestmark = pytest.mark.compat

FILES = 150


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    require_ostree()
    repository = tmp_path_factory.mktemp("ostree") / "a repo (1)"
    tree = tmp_path_factory.mktemp("tree")
    for number in range(FILES):
        directory = tree / f"d{number % 12}" / f"e{number % 5}"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(f"file {number}\n".encode() * (number * number))
    (tree / "empty").touch()
    (tree / "large").write_bytes(os.urandom(3 << 20))
    (tree / "link").symlink_to("large")
    run_ostree(repository, "init", "--mode=archive")
    for branch in ("main", "app/org.x/x86_64/stable"):
        run_ostree(repository, "commit", "-b", branch, f"--subject={branch}", str(tree))
    return repository


@pytest.fixture(params=["http", "https"], scope="module")
def nginx(
    request: pytest.FixtureRequest, repository: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Nginx, Certificate | None]]:
    work = tmp_path_factory.mktemp("nginx")
    certificate = make_certificate(work) if request.param == "https" else None
    with run_nginx(repository.parent, work, certificate=certificate) as server:
        yield server, certificate


@pytest.fixture(params=Transport, ids=lambda transport: transport.value)
def transport(request: pytest.FixtureRequest) -> Transport:
    chosen: Transport = request.param
    if chosen is Transport.CURL:
        pytest.importorskip("pycurl", reason="pycurl is not installed (extra 'fast')")
    return chosen


@pytest.fixture
def source(transport: Transport, nginx: tuple[Nginx, Certificate | None]) -> Iterator[RemoteSource]:
    server, certificate = nginx
    options = Options(ca_file=None if certificate is None else str(certificate.path))
    source = RemoteSource(f"{server.url}/a%20repo%20(1)", open_fetcher(options=options, transport=transport))
    yield source
    source.close()


class Sink:
    """Keeps a file as (checksum asked for, bytes)."""

    def __init__(self, checksum: Checksum) -> None:
        self._checksum = checksum
        self._chunks: list[bytes] = []

    def write(self, chunk: bytes, /) -> None:
        self._chunks.append(chunk)

    def finish(self) -> tuple[Checksum, bytes]:
        return self._checksum, b"".join(self._chunks)

    def abort(self) -> None:
        pytest.fail("nothing goes wrong here")


def pull(source: RemoteSource, commit: Checksum) -> dict[tuple[Checksum, ObjectKind], bytes]:
    """Fetch everything that a commit needs."""
    wanted = [(commit, ObjectKind.COMMIT)]
    known = set(wanted)
    files: set[Checksum] = set()
    found: dict[tuple[Checksum, ObjectKind], bytes] = {}

    def want(checksum: Checksum, kind: ObjectKind) -> None:
        if (checksum, kind) not in known:
            known.add((checksum, kind))
            wanted.append((checksum, kind))

    def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        assert hashlib.sha256(data).digest() == checksum
        found[checksum, kind] = data
        if kind is ObjectKind.COMMIT:
            parsed = parse_commit(data)
            want(parsed.root_dirtree, ObjectKind.DIRTREE)
            want(parsed.root_dirmeta, ObjectKind.DIRMETA)
        elif kind is ObjectKind.DIRTREE:
            tree = parse_dirtree(data)
            files.update(checksum for _, checksum in tree.files)
            for _, dirtree, dirmeta in tree.dirs:
                want(dirtree, ObjectKind.DIRTREE)
                want(dirmeta, ObjectKind.DIRMETA)

    source.fetch_metadata(lambda: wanted.pop() if wanted else None, deliver)
    found.update(((checksum, ObjectKind.FILE), data) for checksum, data in source.fetch_files(files, Sink))
    return found


def test_a_whole_commit(
    source: RemoteSource, transport: Transport, repository: Path, nginx: tuple[Nginx, Certificate | None]
) -> None:
    commit = source.resolve_ref("main")
    assert commit.hex() == run_ostree(repository, "rev-parse", "main").strip()
    found = pull(source, commit)
    # File number 0 is empty as well.
    assert sum(kind is ObjectKind.FILE for _, kind in found) == FILES + 2
    for (checksum, kind), data in found.items():
        assert data == (repository / loose_path(checksum, kind)).read_bytes()
    server, certificate = nginx
    requests = [request for request in server.read_requests() if request[2].endswith(".filez")]
    protocol = "HTTP/1.1" if certificate is None or transport is Transport.REQUESTS else "HTTP/2.0"
    assert {request[:2] for request in requests[-FILES:]} == {(protocol, 200)}


def test_refs_with_and_without_a_summary(
    source: RemoteSource, repository: Path, nginx: tuple[Nginx, Certificate | None]
) -> None:
    name = "app/org.x/x86_64/stable"
    expected = run_ostree(repository, "rev-parse", name).strip()
    assert source.find_summary() is None
    assert source.resolve_ref(name).hex() == expected
    with pytest.raises(RefNotFoundError):
        source.resolve_ref("app")
    run_ostree(repository, "summary", "--update")
    try:
        later = RemoteSource(source.description, source._fetcher)
        refs = {ref.name: ref for ref in later.list_refs()}
        assert later.resolve_ref(name).hex() == expected
    finally:
        (repository / "summary").unlink()
    assert sorted(refs) == run_ostree(repository, "refs").split() == sorted([name, "main"])
    assert refs[name].checksum.hex() == expected
    commit_file = repository / loose_path(refs[name].checksum, ObjectKind.COMMIT)
    assert refs[name].commit_size == commit_file.stat().st_size
    assert nginx[0].read_requests()[-1][2].endswith("/summary")
