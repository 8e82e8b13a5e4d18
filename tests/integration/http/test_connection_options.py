"""Options of the commands that fetch, seen from the server's side."""

from __future__ import annotations

import base64
import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from cfsctl.http.fetcher import Limits
from cfsctl.workers import default_worker_count
from tests.fakes.faulty_server import FaultyServer
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.support.certificates import make_certificate
from tests.support.programs import CFSCTL
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    origin = FakeOstreeRepository()
    origin.commit({"file": b"content"}, "x")
    origin.write(tmp_path / "site")
    make_repository(tmp_path / "store").close()
    return tmp_path / "site"


def pull(root: Path, *arguments: str | Path, **environment: str) -> subprocess.CompletedProcess[str]:
    command = [CFSCTL, "--repo", root.parent / "store", "ostree", "pull", *arguments]
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={"PATH": "/usr/bin", **environment},
    )


def test_headers_and_user_of_the_first_server_only(root: Path, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("me:a secret: of mine\n")
    with FaultyServer(root) as server, FaultyServer(root) as content:
        options = ("--header", "X-Token: one", "--auth-file", tmp_path / "auth", "--content-url", content.url)
        done = pull(root, server.url, "x", *options)
    assert done.returncode == 0, done.stderr
    expected = "Basic " + base64.b64encode(b"me:a secret: of mine").decode()
    assert {seen.get("authorization") for seen in server.seen["/refs/heads/x"]} == {expected}
    assert {seen.get("x-token") for seen in server.seen["/refs/heads/x"]} == {"one"}
    objects = [seen for path, all_seen in content.seen.items() if "objects" in path for seen in all_seen]
    assert objects
    assert {(seen.get("authorization"), seen.get("x-token")) for seen in objects} == {(None, "one")}


def test_the_password_is_in_no_message(root: Path, tmp_path: Path) -> None:
    (tmp_path / "auth").write_text("me:hidden\n")
    done = pull(root, "http://127.0.0.1:1/r", "x", "--auth-file", tmp_path / "auth", http_proxy="")
    assert done.returncode == 13
    assert "hidden" not in done.stdout + done.stderr


def test_own_authority_and_client_certificate(root: Path, tmp_path: Path) -> None:
    (tmp_path / "client").mkdir()
    certificate, client = make_certificate(tmp_path), make_certificate(tmp_path / "client")
    ca = ("--ca-file", certificate.path)
    own = ("--client-certificate", client.path, "--client-key", client.key_path)
    with FaultyServer(root, certificate=certificate, client=client) as server:
        assert pull(root, server.url, "x").returncode == 13
        assert pull(root, server.url, "x", *ca).returncode == 13
        done = pull(root, server.url, "x", *ca, *own)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("how", ["option", "environment"])
def test_proxy(root: Path, how: str) -> None:
    with FaultyServer(root) as proxy:
        options = ("--proxy", proxy.url) if how == "option" else ()
        environment = {} if how == "option" else {"http_proxy": proxy.url}
        done = pull(root, "http://repository.example/", "x", *options, **environment)
        assert done.returncode != 0  # The fake has the files of the server under other names.
        assert any("repository.example" in path for path in proxy.counts)
        proxy.counts.clear()
        if how == "environment":
            pull(root, "http://127.0.0.1:1/", "x", no_proxy="127.0.0.1", **environment)
            pull(root, "http://127.0.0.1:1/", "x", "--proxy", "", **environment)
            assert not proxy.counts


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (("--header", "nothing"), "--header: expected NAME:VALUE"),
        (("--header", "A: b\r\nC: d"), "--header: expected NAME:VALUE"),
    ],
)
def test_what_is_no_option(root: Path, options: tuple[str, ...], text: str) -> None:
    done = pull(root, "http://127.0.0.1:1/", "x", *options)
    assert done.returncode == 2
    assert text in done.stderr


def test_connections_are_bounded(tmp_path: Path) -> None:
    origin = FakeOstreeRepository()
    origin.commit({f"file-{number}": b"%d" % number for number in range(200)}, "x")
    origin.write(tmp_path / "site")
    used = {}
    for options in ((), ("--connections=1",)):
        shutil.rmtree(tmp_path / "store", ignore_errors=True)
        make_repository(tmp_path / "store").close()
        with FaultyServer(tmp_path / "site") as server:
            done = pull(tmp_path / "site", server.url, "x", *options)
            used[options] = {peer for path, peer in server.peers.items() if path.endswith(".filez")}
        assert done.returncode == 0, done.stderr
    assert len(used["--connections=1",]) <= default_worker_count() < len(used[()])


def test_processes_share_what_they_may_have() -> None:
    assert [Limits.shared(count).connections_max for count in (1, 2, 8, 100)] == [64, 32, 8, 1]
    assert Limits.shared(2, 6) == Limits(connections=3, connections_max=3)
    assert Limits.shared(2, 100) == Limits(connections=8, connections_max=50)


@pytest.mark.parametrize("number", ["0", "-1", "257", "many"])
def test_numbers_of_connections_that_make_no_sense(number: str, root: Path) -> None:
    done = pull(root, "http://127.0.0.1:1/r", "x", f"--connections={number}")
    assert done.returncode == 2
    assert "--connections" in done.stderr
