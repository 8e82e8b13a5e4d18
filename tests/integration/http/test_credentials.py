"""Credentials go to the servers that the user has named, and passwords into no message."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING, NamedTuple

import pytest

from cfsctl.errors import CfsError
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.fetcher import Options
from cfsctl.http.urls import InvalidURLError, check_url, named_origins, redact_url
from cfsctl.ostree.objects import ObjectKind
from cfsctl.ostree.sources.remote import RemoteSource
from tests.fakes.faulty_server import FaultyServer, redirect, respond
from tests.fakes.ostree_repository import FakeOstreeRepository
from tests.integration.http.jobs import QUICK
from tests.support.certificates import make_certificate
from tests.support.programs import CFSCTL
from tests.support.repositories import make_repository

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cfsctl.digest import Checksum

HEADERS = {"Authorization": "Bearer SECRET", "Cookie": "id=SECRET", "X-Api-Key": "SECRET"}
EVERY = {name.lower() for name in HEADERS}


class Servers(NamedTuple):
    """One that the user names, and one that only the first one names."""

    named: FaultyServer
    other: FaultyServer
    commit: Checksum


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[Servers]:
    origin = FakeOstreeRepository()
    commit = origin.commit({"file": b"content"}, "x")
    origin.write(tmp_path / "site")
    with FaultyServer(tmp_path / "site") as named, FaultyServer(tmp_path / "site") as other:
        yield Servers(named, other, commit)


def fetch(
    servers: Servers, transport: Transport, url: str, content: str | None = None, also: tuple[str, ...] = ()
) -> None:
    """Resolve the ref and fetch the commit, as a pull does."""
    urls = [url.removeprefix("mirrorlist="), *also]
    options = Options(headers=HEADERS, origins=named_origins(urls))
    fetcher = open_fetcher(QUICK, options, transport=transport)
    source = RemoteSource(url, fetcher, content_urls=[content] if content else [])
    try:
        assert source.resolve_ref("x") == servers.commit
        wanted = iter([(servers.commit, ObjectKind.COMMIT)])
        source.fetch_metadata(lambda: next(wanted, None), lambda *_: None)
    finally:
        source.close()


def leaked(server: FaultyServer) -> set[str]:
    """Return the names of the fields with which a server has got the secret."""
    requests = [fields for path in server.seen.values() for fields in path]
    return {name for fields in requests for name, value in fields.items() if "SECRET" in value}


def test_the_server_that_is_named_gets_them(servers: Servers, transport: Transport) -> None:
    fetch(servers, transport, servers.named.url)
    assert leaked(servers.named) == EVERY


def test_mirrors_that_a_list_names_do_not(servers: Servers, transport: Transport) -> None:
    servers.named.on("/list", respond(f"{servers.other.url}/\n{servers.named.url}/\n".encode()))
    fetch(servers, transport, f"mirrorlist={servers.named.url}/list")
    assert leaked(servers.named) == EVERY
    assert servers.other.seen
    assert not leaked(servers.other)


def test_only_newlines_separate_mirrors(servers: Servers, transport: Transport) -> None:
    other = f"{servers.other.url}/"
    text = f"# x\u2028{other}\x0b{other}\x85{other}\r{other}\n{servers.named.url}/\r\n"
    servers.named.on("/list", respond(text.encode()))
    fetch(servers, transport, f"mirrorlist={servers.named.url}/list")
    assert not servers.other.seen


@pytest.mark.parametrize("what", ["/refs/heads/x", "commit"])
def test_where_redirects_lead_does_not(servers: Servers, transport: Transport, what: str) -> None:
    digits = servers.commit.hex()
    path = f"/objects/{digits[:2]}/{digits[2:]}.commit" if what == "commit" else what
    servers.named.on(path, redirect(servers.other.url + path))
    fetch(servers, transport, servers.named.url)
    assert servers.other.seen[path]
    assert not leaked(servers.other)
    # Back again: the server is the one that was named, whoever sends us there.
    servers.other.on(path, redirect(f"{servers.named.url}/again"))
    with pytest.raises(CfsError):
        fetch(servers, transport, servers.named.url)
    assert servers.named.seen["/again"][-1]["x-api-key"] == "SECRET"
    assert not leaked(servers.other)


def test_content_urls_that_are_named_get_them(servers: Servers, transport: Transport) -> None:
    fetch(servers, transport, servers.named.url, content=servers.other.url, also=(servers.other.url,))
    assert leaked(servers.other) == EVERY


def test_without_named_servers_only_the_first_gets_them(servers: Servers, transport: Transport) -> None:
    url = servers.named.on("/a", redirect(servers.other.url + "/b"))
    servers.other.on("/b", respond(b"x"))
    fetcher = open_fetcher(QUICK, Options(headers=HEADERS), transport=transport)
    assert fetcher.get(url, limit_bytes=9).body == b"x"
    fetcher.close()
    assert leaked(servers.named) == EVERY
    assert not leaked(servers.other)


def test_the_certificate_is_for_named_servers(tmp_path: Path, transport: Transport) -> None:
    (tmp_path / "client").mkdir()
    certificate, client = make_certificate(tmp_path), make_certificate(tmp_path / "client")
    with (
        FaultyServer(certificate=certificate, client=client) as named,
        FaultyServer(certificate=certificate, client=client) as other,
    ):
        options = Options(
            ca_file=str(certificate.path),
            client_certificate=str(client.path),
            client_key=str(client.key_path),
            origins=named_origins([named.url]),
        )
        url = named.on("/a", respond(b"x"), redirect(other.url + "/b"), respond(b"y"))
        other.on("/b", respond(b"z"))
        fetcher = open_fetcher(QUICK, options, transport=transport)
        assert fetcher.get(url, limit_bytes=9).body == b"x"
        # The other one asks for a certificate, and gets none, however often it is tried.
        with pytest.raises(CfsError):
            fetcher.get(other.url + "/b", limit_bytes=9)
        assert not other.seen
        fetcher.close()


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("http://user:SECRET@host/x", "http://host/x"),
        ("http://user:SECRET@host:8/x@y", "http://host:8/x@y"),
        ("http://user:a@SECRET@host/x", "http://host/x"),
        ("http://user:SEC/SECRET@host/x", "http://host/x"),
        ("http://user:SEC?SECRET@host/x", "http://host/x"),
        ("http://user:SEC#SECRET@host/x", "http://host/x"),
        ("http://a@user:SEC/SECRET@host/x", "http://host/x"),
        ("http://user:SECRET\\@host/x", "http://host/x"),
        ("http://user:SECRET @host/x", "http://host/x"),
        ("http://user:SECRET@[::1]:8/x", "http://[::1]:8/x"),
        ("user:SECRET@host/x", "host/x"),
        ("http://host/a@b/c", "http://host/a@b/c"),
        ("http://host:80/a@b?c@d", "http://host:80/a@b?..."),
        ("http://host", "http://host"),
        ("name", "name"),
    ],
)
def test_shown_urls_have_no_credentials(url: str, shown: str) -> None:
    assert redact_url(url) == shown


@pytest.mark.parametrize(
    "url", ["http://user:SECRET /x@host/", "http://user:SECRET/x@host/", "http://[SECRET@x/", "SECRET:u@host"]
)
def test_what_is_not_a_url_is_not_shown_with_credentials(url: str) -> None:
    with pytest.raises(InvalidURLError) as caught:
        check_url(url)
    assert "SECRET" not in str(caught.value)


URLS = {
    "space": "http://user:SECRET@127.0.0.1:1/a b",
    "refused": "http://user:SECRET@127.0.0.1:1/",
    "scheme": "ftp://user:SECRET@127.0.0.1/",
    "mirrorlist": "mirrorlist=http://user:SECRET@127.0.0.1:1/",
    "slash": "http://user:SECRET/x@127.0.0.1:1/",
    "file": "file://user:SECRET@host/x",
    "bare": "user:SECRET@127.0.0.1/x",
}

OPTIONS = {
    "proxy": ["--proxy", "http://user:SECRET@127.0.0.1:1/"],
    "proxy-scheme": ["--proxy", "foo://user:SECRET@127.0.0.1:1/"],
    "proxy-slash": ["--proxy", "http://user:SECRET/x@127.0.0.1:1/"],
    "fallback": ["--fallback-url", "http://user:SECRET@127.0.0.1:1/ x"],
    "header": ["--header", "Authorization: SECRET\x01"],
    "header-colon": ["--header", "SECRET"],
}


@pytest.mark.parametrize("case", [*URLS, *OPTIONS])
def test_messages_have_no_credentials(tmp_path: Path, case: str) -> None:
    make_repository(tmp_path / "store").close()
    arguments = [*OPTIONS.get(case, []), URLS.get(case, "http://127.0.0.1:1/"), "x"]
    command = [str(CFSCTL), "--repo", str(tmp_path / "store"), "--debug", "ostree", "pull", *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False, env={"PATH": "/usr/bin"}
    )
    assert done.returncode not in {0, 1}
    assert "SECRET" not in done.stdout + done.stderr
