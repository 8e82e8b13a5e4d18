"""A large body that breaks off is gone on with where it did, and begun anew where that cannot be."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from cfsctl.errors import DigestMismatchError, FetchError
from cfsctl.http import open_fetcher
from cfsctl.http.errors import TooLargeError
from tests.fakes.faulty_server import announce, respond
from tests.integration.http.jobs import QUICK, Body, fetch, transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.http import Transport
    from cfsctl.http.fetcher import Fetcher
    from tests.fakes.faulty_server import Exchange, FaultyServer, Reaction

BODY = bytes(range(251)) * 1000
HALF = 200_000
BROKEN = announce(len(BODY), BODY[:HALF])


def start_of(server: FaultyServer, number: int = -1) -> int:
    """Return where a request for /x wants to begin."""
    text = server.seen["/x"][number].get("range", "bytes=0-")
    assert text.startswith("bytes=")
    assert text.endswith("-")
    return int(text[6:-1])


def rest(
    server: FaultyServer, shift: int = 0, until: int | None = None, fields: dict[str, str] | None = None
) -> Reaction:
    """Answer with what is asked for, or pretend to; hang up early if told so."""

    def react(exchange: Exchange) -> bool:
        start = start_of(server) + shift
        last = len(BODY) - 1
        exchange.send_head(
            206,
            {
                "Content-Length": str(len(BODY) - start),
                "Content-Range": f"bytes {start}-{last}/{len(BODY)}",
                **(fields or {}),
            },
        )
        exchange.send(BODY[start:until])
        return until is None

    return react


def ranged(server: FaultyServer, content_range: str, **fields: str) -> Reaction:
    """Answer with the rest, and say something else about it; {start} and {last} stand for what it is."""

    def react(exchange: Exchange) -> bool:
        start = start_of(server)
        text = content_range.format(start=start, last=len(BODY) - 1, size=len(BODY))
        named = {name.replace("_", "-"): value for name, value in fields.items()}
        head = {"Content-Length": str(len(BODY) - start), "Content-Range": text, **named}
        exchange.send_head(206, head)
        exchange.send(BODY[start:])
        return True

    return react


MARKED = {"ETag": '"one"', "Last-Modified": "Thu, 01 Jan 1970 00:00:00 GMT"}


def broken(exchange: Exchange) -> bool:
    """Send the first half of the body, and say what makes it known again."""
    exchange.send_head(200, {"Content-Length": str(len(BODY)), **MARKED})
    exchange.send(BODY[:HALF])
    return False


def test_the_rest_is_asked_for(fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", BROKEN, rest(server)))
    assert transfer(fetcher, [job]) == {job.url: BODY}
    assert (server.counts["/x"], len(job.chunks), job.aborted) == (2, 1, 0)
    assert 0 < start_of(server) <= HALF


def test_it_may_break_off_again(fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", BROKEN, rest(server, until=230_000), rest(server)))
    assert transfer(fetcher, [job]) == {job.url: BODY}
    assert (len(job.chunks), job.aborted) == (1, 0)
    assert 0 < start_of(server, 1) < start_of(server, 2) <= 230_000


def test_a_connection_is_used_for_other_bodies_afterwards(fetcher: Fetcher, server: FaultyServer) -> None:
    server.on("/x", BROKEN, rest(server))
    for path in ("/x", "/y", "/z"):
        url = server.url + path if path == "/x" else server.on(path, respond(BODY))
        assert fetch(fetcher, url) == BODY
    assert "range" not in server.seen["/y"][0]
    assert "range" not in server.seen["/z"][0]


ANEW: dict[str, Callable[[FaultyServer], Reaction]] = {
    "whole body": lambda _: respond(BODY),
    "another part": lambda server: rest(server, shift=7),
    "part without a range": lambda _: respond(BODY[HALF:], 206),
    "no such part": lambda _: respond(b"", 416),
    "no such part, with a page": lambda _: respond(b"p" * 5000, 416, Content_Range=f"bytes */{len(BODY)}"),
    "several parts": lambda server: rest(
        server, fields={"Content-Range": "", "Content-Type": "multipart/byteranges; boundary=x"}
    ),
    "another unit": lambda server: ranged(server, "lines {start}-{last}/{size}"),
    "not a range": lambda server: ranged(server, "bytes {start}-x/{size}"),
    "a range of huge numbers": lambda server: ranged(server, "bytes {start}-" + "9" * 5000 + "/*"),
    "a range backwards": lambda server: ranged(server, "bytes {start}-1/{size}"),
    "more than there is": lambda server: ranged(server, "bytes {start}-{last}/300"),
    "less than the rest": lambda server: ranged(server, "bytes {start}-220000/{size}"),
    "another size": lambda server: ranged(server, "bytes {start}-251000/251001", Content_Length="51001"),
    "another tag": lambda server: ranged(server, "bytes {start}-{last}/{size}", ETag='"two"'),
    "another date": lambda server: ranged(
        server, "bytes {start}-{last}/{size}", Last_Modified="Fri, 02 Jan 1970 00:00:00 GMT"
    ),
}


@pytest.mark.parametrize("answer", ANEW)
def test_it_begins_anew(answer: str, fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", broken, ANEW[answer](server), respond(BODY)))
    assert transfer(fetcher, [job]) == {job.url: BODY}
    assert start_of(server, 1) > 0
    assert start_of(server, 2) == 0
    assert (len(job.chunks), job.aborted) == (2, 1)


SAME: dict[str, Callable[[FaultyServer], Reaction]] = {
    "the same marks": lambda server: rest(server, fields=MARKED),
    "no marks": rest,
    "a size that is not known": lambda server: ranged(server, "bytes {start}-{last}/*"),
    "by way of a redirect": lambda _: respond(b"p" * 5000, 302, Location="/x"),
}


@pytest.mark.parametrize("answer", SAME)
def test_it_goes_on(answer: str, fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", broken, SAME[answer](server), rest(server)))
    assert transfer(fetcher, [job]) == {job.url: BODY}
    assert (len(job.chunks), job.aborted) == (1, 0)


@pytest.mark.parametrize("status", [400, 403, 404, 500])
def test_an_error_in_place_of_the_rest_is_delivered_to_nobody(
    status: int, fetcher: Fetcher, server: FaultyServer
) -> None:
    job = Body(server.on("/x", broken, respond(b"p" * 5000, status)))
    with pytest.raises(FetchError, match=f"HTTP status {status}"):
        transfer(fetcher, [job])
    assert sum(map(sum, job.chunks)) <= HALF
    assert job.aborted == len(job.chunks)


def test_a_whole_body_that_breaks_off_too_is_not_taken_for_the_rest(
    fetcher: Fetcher, server: FaultyServer
) -> None:
    job = Body(server.on("/x", broken, announce(len(BODY), BODY[:900]), respond(BODY)))
    assert transfer(fetcher, [job]) == {job.url: BODY}


def refuse_wrong(data: bytes) -> None:
    if len(data) == len(BODY) and data != BODY:
        raise DigestMismatchError("thing", expected="a", actual="b")


def test_two_pieces_that_do_not_fit_are_not_the_end(fetcher: Fetcher, server: FaultyServer) -> None:
    """The first half came from somebody in between, say; the whole thing is asked for once more."""
    wrong = announce(len(BODY), b"\0" * HALF)
    job = Body(server.on("/x", wrong, rest(server), respond(BODY)), refuse=refuse_wrong)
    assert transfer(fetcher, [job]) == {job.url: BODY}
    assert start_of(server, 2) == 0


def test_a_wrong_body_in_one_piece_is_refused_at_once(fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", respond(b"\0" * len(BODY))), refuse=refuse_wrong)
    with pytest.raises(DigestMismatchError):
        transfer(fetcher, [job])
    assert server.counts["/x"] == 1


def test_small_bodies_are_fetched_again(fetcher: Fetcher, server: FaultyServer) -> None:
    assert fetch(fetcher, server.on("/x", announce(900, b"x" * 500), respond(b"x" * 900))) == b"x" * 900
    assert start_of(server) == 0


def test_everything_is_released_in_the_end(fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", BROKEN))
    with pytest.raises(FetchError, match="thing: "):
        transfer(fetcher, [job])
    assert job.aborted == len(job.chunks) >= 1


def test_so_it_is_if_the_caller_gives_up(transport: Transport, server: FaultyServer) -> None:
    job = Body(server.on("/x", BROKEN))
    good = [Body(server.on(f"/{number}", respond(b"y"))) for number in range(40)]
    fetcher = open_fetcher(replace(QUICK, backoff_s=30, backoff_max_s=30), transport=transport)
    pending = iter([job, *good])
    results = fetcher.transfer(lambda: next(pending, None))
    for _ in good:
        next(results)
    results.close()
    fetcher.close()
    assert job.aborted == len(job.chunks) == 1


def test_a_limit_counts_both_pieces(fetcher: Fetcher, server: FaultyServer) -> None:
    job = Body(server.on("/x", BROKEN, rest(server)), limit_bytes=len(BODY) - 1)
    with pytest.raises(TooLargeError):
        transfer(fetcher, [job])
    job = Body(server.on("/x", BROKEN, rest(server)), limit_bytes=len(BODY))
    assert transfer(fetcher, [job]) == {job.url: BODY}
