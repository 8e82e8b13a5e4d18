"""How a fetcher runs jobs: order of calls, cancellation, documents, forked processes."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from cfsctl.http import Transport, open_fetcher
from cfsctl.http.errors import HTTPStatusError, TooLargeError
from cfsctl.http.fetcher import Response
from cfsctl.workers import WorkerPool, is_fork_safe
from tests.fakes.faulty_server import FaultyServer, endless, respond, stall
from tests.integration.http.jobs import QUICK, Body, fetch, transfer

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Fetcher


def test_no_jobs(fetcher: Fetcher) -> None:
    assert transfer(fetcher, []) == {}


def test_results_make_more_jobs(fetcher: Fetcher, server: FaultyServer) -> None:
    for number in range(10):
        server.on(f"/{number}", respond(f"/{number + 1}".encode()))
    wanted = [f"{server.url}/0"]
    seen = []
    for url, body in fetcher.transfer(lambda: Body(wanted.pop()) if wanted else None):
        seen.append(url.removeprefix(server.url))
        if body != b"/10":
            wanted.append(server.url + body.decode())
    assert seen == [f"/{number}" for number in range(10)]


def test_no_more_jobs_are_asked_for_than_can_run(fetcher: Fetcher, server: FaultyServer) -> None:
    url = server.on("/x", respond(b"body"))
    asked = finished = 0

    def next_job() -> Body | None:
        nonlocal asked
        if asked == 50:
            return None
        asked += 1
        assert asked - finished <= QUICK.connections
        return Body(url)

    for _ in fetcher.transfer(next_job):
        finished += 1
    assert finished == 50


def test_closing_the_iterator_cancels(fetcher: Fetcher, server: FaultyServer) -> None:
    good = Body(server.on("/good", respond(b"good")))
    stuck = Body(server.on("/stuck", endless()))
    pending = iter([stuck, good])
    results = fetcher.transfer(lambda: next(pending, None))
    assert next(results) == (good.url, b"good")
    results.close()
    assert stuck.aborted == len(stuck.chunks)
    assert fetch(fetcher, good.url) == b"good"


def test_an_error_cancels_the_others(fetcher: Fetcher, server: FaultyServer) -> None:
    stuck = Body(server.on("/stuck", stall(b"x" * 5000, 9999)))
    with pytest.raises(HTTPStatusError):
        transfer(fetcher, [stuck, Body(server.on("/gone", respond(b"", 410)))])
    assert stuck.aborted == len(stuck.chunks)
    assert server.counts["/stuck"] <= 1


def test_errors_of_documents(fetcher: Fetcher, server: FaultyServer) -> None:
    with pytest.raises(HTTPStatusError, match="404"):
        fetcher.get(server.on("/x", respond(b"page" * 1000, 404)), limit_bytes=10)
    with pytest.raises(TooLargeError, match="10 bytes"):
        fetcher.get(server.on("/y", respond(b"12345678901")), limit_bytes=10)
    with pytest.raises(TooLargeError, match="2000 bytes"):
        fetcher.get(server.on("/z", endless()), limit_bytes=2000)
    with pytest.raises(HTTPStatusError, match="304"):
        fetcher.get(server.on("/n", respond(b"", 304)), limit_bytes=10)
    with pytest.raises(HTTPStatusError, match="503"):
        fetcher.get(server.on("/b", respond(b"busy", 503)), limit_bytes=10)
    assert server.counts["/b"] == QUICK.attempts


@pytest.mark.parametrize("size", [0, 10, 5000])
def test_a_document(fetcher: Fetcher, server: FaultyServer, size: int) -> None:
    body = bytes(size)
    url = server.on("/x", respond(b"broken", 500), respond(body, ETag='"abc"', Last_Modified="yesterday"))
    assert fetcher.get(url, limit_bytes=size) == Response(200, body, '"abc"', "yesterday")
    assert fetcher.get(url, limit_bytes=size).etag == '"abc"'


def test_a_document_that_did_not_change(fetcher: Fetcher, server: FaultyServer) -> None:
    url = server.on("/x", respond(b"", 304, ETag='"abc"'))
    assert fetcher.get(url, limit_bytes=9, headers={"If-None-Match": '"abc"'}) == Response(
        304, b"", '"abc"', None
    )
    assert server.seen["/x"][0]["if-none-match"] == '"abc"'
    # A condition is no part of the next request.
    with pytest.raises(HTTPStatusError):
        fetcher.get(url, limit_bytes=9)
    assert "if-none-match" not in server.seen["/x"][1]


def test_a_document_during_a_transfer(fetcher: Fetcher, server: FaultyServer) -> None:
    note = server.on("/note", respond(b"note"))
    pending = iter([Body(server.on(f"/{number}", respond(b"body"))) for number in range(10)])
    count = 0
    for _ in fetcher.transfer(lambda: next(pending, None)):
        assert fetcher.get(note, limit_bytes=4).body == b"note"
        count += 1
    assert count == 10


def test_closed_is_not_the_end(fetcher: Fetcher, server: FaultyServer) -> None:
    url = server.on("/x", respond(b"body"))
    assert fetch(fetcher, url) == b"body"
    fetcher.close()
    fetcher.close()
    assert fetch(fetcher, url) == b"body"
    assert fetcher.get(url, limit_bytes=4).body == b"body"


@pytest.mark.alone
def test_workers_open_connections_of_their_own(transport: Transport) -> None:
    # The workers are forked before the server has threads, and after the fetcher was used.
    fetcher = open_fetcher(QUICK, transport=transport)
    with FaultyServer() as early:
        assert fetch(fetcher, early.on("/x", respond(b"parent"))) == b"parent"
        assert fetcher.get(early.url + "/x", limit_bytes=9).body == b"parent"

    def handle(url: str) -> tuple[bytes, int]:
        return fetch(fetcher, url), fetcher.statistics.requests

    deadline_s = time.monotonic() + 120
    while not is_fork_safe():
        assert time.monotonic() < deadline_s, "this process has other threads and may not fork"
        time.sleep(0.01)  # a thread that was joined takes a moment to leave the process
    with WorkerPool(lambda: handle, 2) as pool, FaultyServer() as server:
        assert pool.count == 2
        for number in range(4):
            pool.submit(server.on(f"/{number}", respond(b"worker")))
        results = list(pool.iter_results())
        assert {body for body, _ in results} == {b"worker"}
        assert sum(count == 1 for _, count in results) == 2
        pool.submit(server.on("/gone", respond(b"", 410)))
        with pytest.raises(HTTPStatusError, match="HTTP status 410") as caught:
            list(pool.iter_results())
        assert caught.value.status == 410
    assert fetcher.statistics.requests == 2
    fetcher.close()


def test_a_transfer_within_a_transfer(fetcher: Fetcher, server: FaultyServer) -> None:
    inner = server.on("/inner", respond(b"inner"))
    pending = iter([Body(server.on(f"/{number}", respond(b"outer"))) for number in range(10)])
    found = []
    for _, body in fetcher.transfer(lambda: next(pending, None)):
        found += [body, fetch(fetcher, inner)]
    assert found == [b"outer", b"inner"] * 10
