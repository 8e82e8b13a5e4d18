"""What each transport makes of servers that fail, lie or fall silent."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cfsctl.http import Transport, open_fetcher
from cfsctl.http.errors import (
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    RedirectError,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
)
from cfsctl.http.fetcher import Options
from tests.fakes.faulty_server import (
    FaultyServer,
    announce,
    drip,
    endless,
    redirect,
    reset,
    respond,
    stall,
    unannounced,
)
from tests.integration.http.jobs import BRIEF, QUICK, Body, fetch, transfer
from tests.support.certificates import make_certificate
from tests.support.nginx import find_free_port

if TYPE_CHECKING:
    from pathlib import Path

    from cfsctl.http.fetcher import Fetcher
    from tests.fakes.faulty_server import Reaction

BODY = bytes(range(256)) * 4  # more than is held


@pytest.mark.parametrize("body", [b"", b"x", BODY], ids=["empty", "small", "streamed"])
def test_a_good_answer(fetcher: Fetcher, server: FaultyServer, body: bytes) -> None:
    assert fetch(fetcher, server.on("/x", respond(body))) == body
    assert fetcher.statistics.requests == 1
    assert fetcher.statistics.received_bytes == len(body)


def test_bodies_without_a_length(fetcher: Fetcher, server: FaultyServer) -> None:
    assert fetch(fetcher, server.on("/x", unannounced(BODY))) == BODY


def test_bytes_beyond_the_announced_length_are_ignored(fetcher: Fetcher, server: FaultyServer) -> None:
    assert fetch(fetcher, server.on("/x", announce(100, BODY))) == BODY[:100]


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (announce(2000, BODY), TruncatedBodyError),
        (announce(10, b"xyz"), TruncatedBodyError),
        (reset(), ConnectFailedError),
        (reset(BODY, 2000), ConnectFailedError),
        (respond(b"slow down", 429), HTTPStatusError),
        (respond(b"broken", 500), HTTPStatusError),
        (respond(BODY * 100, 502), HTTPStatusError),
        (respond(b"busy", 503, Retry_After="0"), HTTPStatusError),
        (respond(b"late", 504), HTTPStatusError),
        (respond(b"slow", 408), HTTPStatusError),
    ],
    ids=["short", "short-small", "reset", "reset-in-body", "429", "500", "502-large", "503", "504", "408"],
)
class TestPassingFault:
    """A fault that may pass."""

    def test_is_tried_again(
        self, fetcher: Fetcher, server: FaultyServer, fault: Reaction, error: type[TransferError]
    ) -> None:
        job = Body(server.on("/x", fault, fault, respond(BODY)))
        assert transfer(fetcher, [job]) == {job.url: BODY}
        assert server.counts["/x"] == 3
        assert fetcher.statistics.retries == 2
        assert job.aborted == len(job.chunks) - 1
        assert error.is_transient or error is HTTPStatusError

    def test_ends_in_an_error_when_it_does_not_pass(
        self, fetcher: Fetcher, server: FaultyServer, fault: Reaction, error: type[TransferError]
    ) -> None:
        job = Body(server.on("/x", fault))
        with pytest.raises(error) as caught:
            transfer(fetcher, [job])
        assert server.counts["/x"] == QUICK.attempts
        assert job.aborted == len(job.chunks)
        assert str(caught.value).startswith(f"thing: {job.url}: ")


@pytest.mark.parametrize("status", [403, 404, 410, 400, 501, 204, 206])
def test_other_statuses_are_final(fetcher: Fetcher, server: FaultyServer, status: int) -> None:
    with pytest.raises(HTTPStatusError, match=f"HTTP status {status}") as caught:
        fetch(fetcher, server.on("/x", respond(b"" if status == 204 else b"page", status)))
    assert caught.value.status == status
    assert server.counts["/x"] == 1


@pytest.mark.parametrize(
    "fault",
    [stall(), stall(BODY, 2000), stall(b"xyz", 2000), drip(BODY, 0.05)],
    ids=["before-the-header", "in-the-body", "in-a-small-body", "drip"],
)
def test_silence_ends_in_a_timeout(transport: Transport, server: FaultyServer, fault: Reaction) -> None:
    fetcher = open_fetcher(BRIEF, transport=transport)
    job = Body(server.on("/x", fault))
    with pytest.raises(FetchTimeoutError):
        transfer(fetcher, [job])
    assert server.counts["/x"] == BRIEF.timeout_attempts
    assert job.aborted == len(job.chunks)
    fetcher.close()


def test_a_timeout_may_be_tried_again(transport: Transport, server: FaultyServer) -> None:
    fetcher = open_fetcher(replace(BRIEF, attempts=60, timeout_attempts=60), transport=transport)
    assert fetch(fetcher, server.on("/x", stall(), respond(BODY))) == BODY
    fetcher.close()


@pytest.mark.parametrize("limit", [10, 1000, 1024, 5000])
def test_an_endless_body_ends_at_the_limit(fetcher: Fetcher, server: FaultyServer, limit: int) -> None:
    job = Body(server.on("/x", endless(BODY)), limit)
    with pytest.raises(TooLargeError, match=f"limit of {limit} bytes"):
        transfer(fetcher, [job])
    assert sum(map(sum, job.chunks)) <= limit
    assert server.counts["/x"] == 1


@pytest.mark.parametrize("limit", [10, 1023])
def test_an_announced_body_beyond_the_limit_is_refused(
    fetcher: Fetcher, server: FaultyServer, limit: int
) -> None:
    job = Body(server.on("/x", respond(BODY)), limit)
    with pytest.raises(TooLargeError):
        transfer(fetcher, [job])
    assert job.chunks == []


@pytest.mark.parametrize("limit", [1024, 1025])
def test_a_body_up_to_the_limit_is_taken(fetcher: Fetcher, server: FaultyServer, limit: int) -> None:
    assert fetch(fetcher, server.on("/x", respond(BODY)), limit) == BODY
    assert fetch(fetcher, server.on("/y", unannounced(BODY)), limit) == BODY


def test_an_error_page_beyond_the_limit_is_still_its_status(fetcher: Fetcher, server: FaultyServer) -> None:
    with pytest.raises(HTTPStatusError, match="404"):
        fetch(fetcher, server.on("/x", respond(BODY, 404)), 10)


def test_a_sink_can_end_an_endless_body(fetcher: Fetcher, server: FaultyServer) -> None:
    def refuse(data: bytes) -> None:
        if len(data) > 10_000:
            raise KeyError("enough")

    good = Body(server.on("/y", respond(BODY)))
    bad = Body(server.on("/x", endless()), refuse=refuse)
    with pytest.raises(KeyError, match="enough"):
        transfer(fetcher, [bad, good])
    assert bad.aborted == 1
    # The fetcher is none the worse for it.
    assert fetch(fetcher, good.url) == BODY


def test_redirects_are_followed(fetcher: Fetcher, server: FaultyServer) -> None:
    server.on("/b", redirect(server.url + "/c", 307))
    server.on("/c", respond(BODY))
    assert fetch(fetcher, server.on("/a", redirect("b"))) == BODY


def test_a_redirect_loop_ends(fetcher: Fetcher, server: FaultyServer) -> None:
    with pytest.raises(RedirectError):
        fetch(fetcher, server.on("/x", redirect("/x")))
    assert server.counts["/x"] == QUICK.redirects + 1


@pytest.mark.parametrize("target", ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1:70/x"])
def test_redirects_to_other_schemes_are_refused(fetcher: Fetcher, server: FaultyServer, target: str) -> None:
    with pytest.raises(RedirectError):
        fetch(fetcher, server.on("/x", redirect(target)))
    assert server.counts["/x"] == 1


def test_a_redirect_without_a_target_is_its_status(fetcher: Fetcher, server: FaultyServer) -> None:
    with pytest.raises(HTTPStatusError, match="302"):
        fetch(fetcher, server.on("/x", respond(b"page", 302)))


def test_tls_is_never_left(transport: Transport, server: FaultyServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    fetcher = open_fetcher(QUICK, Options(ca_file=str(certificate.path)), transport=transport)
    with FaultyServer(certificate=certificate) as secure:
        assert fetch(fetcher, secure.on("/good", respond(BODY))) == BODY
        with pytest.raises(RedirectError):
            fetch(fetcher, secure.on("/x", redirect(server.on("/y", respond(BODY)))))
        assert fetch(fetcher, server.on("/up", redirect(secure.url + "/good"))) == BODY
    assert server.counts["/y"] == 0
    fetcher.close()


def test_an_unknown_authority_is_refused_at_once(fetcher: Fetcher, tmp_path: Path) -> None:
    with FaultyServer(certificate=make_certificate(tmp_path)) as secure, pytest.raises(TLSError):
        fetch(fetcher, secure.on("/x", respond(BODY)))
    assert fetcher.statistics.requests == 1


@pytest.mark.parametrize("is_one_file", [False, True])
def test_a_client_certificate(transport: Transport, tmp_path: Path, *, is_one_file: bool) -> None:
    ours = make_certificate(tmp_path)
    both = tmp_path / "both.pem"
    both.write_bytes(ours.path.read_bytes() + ours.key_path.read_bytes())
    options = Options(
        ca_file=str(ours.path),
        client_certificate=str(both if is_one_file else ours.path),
        client_key=None if is_one_file else str(ours.key_path),
    )
    with FaultyServer(certificate=ours, client=ours) as secure:
        url = secure.on("/x", respond(BODY))
        fetcher = open_fetcher(QUICK, options, transport=transport)
        assert fetch(fetcher, url) == BODY
        fetcher.close()
        without = open_fetcher(QUICK, Options(ca_file=str(ours.path)), transport=transport)
        with pytest.raises(TransferError):
            fetch(without, url)
        without.close()


def test_nobody_listens(fetcher: Fetcher) -> None:
    with pytest.raises(ConnectFailedError):
        fetch(fetcher, f"http://127.0.0.1:{find_free_port()}/x")
    assert fetcher.statistics.requests == QUICK.attempts


def test_credentials_reach_the_server_and_no_message(fetcher: Fetcher, server: FaultyServer) -> None:
    url = server.on("/x", redirect("/y")).replace("http://", "http://user:p%40ss@")
    server.on("/y", respond(b"", 404))
    with pytest.raises(HTTPStatusError) as caught:
        fetch(fetcher, url)
    assert "p%40ss" not in str(caught.value)
    for path in ("/x", "/y"):
        assert server.seen[path][0]["authorization"] == "Basic dXNlcjpwQHNz"


def test_credentials_do_not_follow_to_another_server(fetcher: Fetcher, server: FaultyServer) -> None:
    with FaultyServer() as other:
        target = other.on("/y", respond(BODY))
        url = server.on("/x", redirect(target)).replace("http://", "http://user:secret@")
        assert fetch(fetcher, url) == BODY
        assert "authorization" not in other.seen["/y"][0]


def test_headers_of_requests(transport: Transport, server: FaultyServer) -> None:
    options = Options(user_agent="tester/1", headers={"X-Token": "abc"})
    fetcher = open_fetcher(QUICK, options, transport=transport)
    fetch(fetcher, server.on("/x", respond(BODY)))
    fetcher.close()
    seen = server.seen["/x"][0]
    assert seen["user-agent"] == "tester/1"
    assert seen["x-token"] == "abc"
    assert seen.get("accept-encoding", "identity") == "identity"


def test_a_proxy_is_used_unless_the_host_is_exempt(
    transport: Transport, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    # What the environment says is not ours to read.
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{find_free_port()}")
    wanted = "http://example.invalid/x"
    server.on(wanted, respond(BODY))
    options = Options(proxies={"http": server.url.replace("//", "//me:pw@")}, no_proxy="127.0.0.1")
    fetcher = open_fetcher(QUICK, options, transport=transport)
    assert fetch(fetcher, wanted) == BODY
    assert server.seen[wanted][0]["proxy-authorization"] == "Basic bWU6cHc="
    assert fetch(fetcher, server.on("/direct", respond(b"direct"))) == b"direct"
    fetcher.close()


def test_connections_are_kept(fetcher: Fetcher, server: FaultyServer) -> None:
    urls = [server.on(f"/{number}", respond(os.urandom(100))) for number in range(100)]
    assert set(transfer(fetcher, [Body(url) for url in urls])) == set(urls)
    peers = {server.peers[f"/{number}"] for number in range(100)}
    assert len(peers) <= QUICK.connections
