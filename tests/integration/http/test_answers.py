"""Answers that are malformed, contradictory, endless or odd mean the same to both transports."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

import pytest

from cfsctl.errors import CfsError, ExitCode
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.errors import (
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    MalformedAnswerError,
    RedirectError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
)
from cfsctl.http.fetcher import Options
from cfsctl.http.urls import InvalidURLError
from tests.fakes.faulty_server import respond, send_on_and_on, send_raw
from tests.integration.http.jobs import BRIEF, QUICK, Body, fetch, transfer

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.http.fetcher import Fetcher
    from tests.fakes.faulty_server import FaultyServer

    Get: TypeAlias = Callable[[str], bytes]

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIPPED = OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n"
HI = b"Content-Length: 2\r\n\r\nhi"
LIMIT = 100_000


@pytest.fixture(params=["document", "body"])
def get(request: pytest.FixtureRequest, fetcher: Fetcher) -> Get:
    """Return how to fetch something, in each of the two ways."""
    if request.param == "document":
        return lambda url: fetcher.get(url, limit_bytes=LIMIT).body
    return lambda url: fetch(fetcher, url, LIMIT)


GOOD: dict[str, bytes] = {
    "continue": b"HTTP/1.1 100 Continue\r\n\r\n" + OK + HI,
    "early hints": b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK + HI,
    "processing": b"HTTP/1.1 102 Processing\r\n\r\n" * 5 + OK + HI,
    "trailers": CHUNKED + b"2\r\nhi\r\n0\r\nA: b\r\n\r\n",
    "chunk extensions": CHUNKED + b"1;a=b\r\nh\r\n1 ;c\r\ni\r\n0\r\n\r\n",
    "no reason": b"HTTP/1.1 200\r\n" + HI,
    "HTTP/1.0": b"HTTP/1.0 200 OK\r\n\r\nhi",
    "small letters": b"http/1.1 200 ok\r\ncontent-length: 2\r\n\r\nhi",
    "many fields": OK + b"X: y\r\n" * 150 + HI,
    "the same length twice": OK + b"Content-Length: 2\r\n" + HI,
    "chunks go before a length": OK
    + b"Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n" + HI,
    "content encoding unasked for": OK + b"Content-Encoding: gzip\r\n" + HI,
    "unknown content encoding": OK + b"Content-Encoding: frob\r\n" + HI,
    "bytes that are not ASCII": OK + b"X: \xff\xfe\r\nETag: \xe4\r\n" + HI,
    "folded field": OK + b"X: a\r\n  b\r\n" + HI,
    "bare line feeds": b"HTTP/1.1 200 OK\nContent-Length: 2\n\nhi",
    "fields of browsers": OK + b"Set-Cookie: a=b\r\nAlt-Svc: h3\r\n" + HI,
}


@pytest.mark.parametrize("name", GOOD)
def test_odd_and_good(get: Get, server: FaultyServer, name: str) -> None:
    assert get(server.on("/x", send_raw(GOOD[name]))) == b"hi"
    assert server.counts["/x"] == 1


_BROKEN = (ConnectFailedError, TruncatedBodyError)
BAD: dict[str, tuple[bytes, type[TransferError] | tuple[type[TransferError], ...]]] = {
    "nothing": (b"", ConnectFailedError),
    "HTTP/0.9": (b"hello there\n", MalformedAnswerError),
    "noise": (bytes(range(256)) * 10, MalformedAnswerError),
    "another protocol": (b"ICY 200 OK\r\n" + HI, MalformedAnswerError),
    "another version": (b"HTTP/2 200 OK\r\n" + HI, MalformedAnswerError),
    "status of letters": (b"HTTP/1.1 abc X\r\n" + HI, MalformedAnswerError),
    "status 000": (b"HTTP/1.1 000 X\r\n" + HI, MalformedAnswerError),
    "status below 0": (b"HTTP/1.1 -1 X\r\n" + HI, MalformedAnswerError),
    "long status": (b"HTTP/1.1 99999 X\r\n" + HI, (MalformedAnswerError, HTTPStatusError)),
    "switching protocols": (b"HTTP/1.1 101 X\r\nUpgrade: x\r\n\r\n", (HTTPStatusError, ConnectFailedError)),
    "length below 0": (OK + b"Content-Length: -2\r\n\r\nhi", MalformedAnswerError),
    "length of letters": (OK + b"Content-Length: abc\r\n\r\nhi", MalformedAnswerError),
    "length with a sign": (OK + b"Content-Length: +2\r\n\r\nhi", MalformedAnswerError),
    "empty length": (OK + b"Content-Length: \r\n\r\nhi", MalformedAnswerError),
    "two lengths": (OK + b"Content-Length: 3\r\n" + HI, MalformedAnswerError),
    "list of lengths": (OK + b"Content-Length: 2, 3\r\n\r\nhi", MalformedAnswerError),
    "huge length": (OK + b"Content-Length: " + b"9" * 30 + b"\r\n\r\nhi", TooLargeError),
    "huger length": (OK + b"Content-Length: " + b"9" * 5000 + b"\r\n\r\nhi", TooLargeError),
    "transfer encoding unasked for": (GZIPPED + b"0\r\n\r\n", MalformedAnswerError),
    "unknown transfer encoding": (OK + b"Transfer-Encoding: frob\r\n" + HI, MalformedAnswerError),
    "NUL in a field": (OK + b"X: a\0b\r\n" + HI, MalformedAnswerError),
    "NUL in a name": (OK + b"X\0: a\r\n" + HI, MalformedAnswerError),
    "carriage return in a field": (OK + b"X: a\rContent-Length: 1\r\n" + HI, MalformedAnswerError),
    "field without a colon": (OK + b"nothing\r\n" + HI, MalformedAnswerError),
    "chunk size of letters": (CHUNKED + b"zz\r\nhi\r\n0\r\n\r\n", _BROKEN),
    "chunk size below 0": (CHUNKED + b"-2\r\nhi\r\n0\r\n\r\n", _BROKEN),
    "huge chunk": (CHUNKED + b"f" * 40 + b"\r\nhi\r\n0\r\n\r\n", _BROKEN),
    "chunk longer than announced": (CHUNKED + b"2\r\nhiXX0\r\n\r\n", _BROKEN),
    "chunk size with an underscore": (CHUNKED + b"1_0\r\n" + b"x" * 16 + b"\r\n0\r\n\r\n", _BROKEN),
    "end in the status": (b"HTTP/1.1 2", ConnectFailedError),
    "end after the status": (OK, ConnectFailedError),
    "end in a field": (OK + b"Content-Le", ConnectFailedError),
    "end after a field": (OK + b"Content-Length: 2\r\n", (ConnectFailedError, TruncatedBodyError)),
    "end before the body": (OK + b"Content-Length: 2\r\n\r\n", TruncatedBodyError),
    "end in the body": (OK + b"Content-Length: 2\r\n\r\nh", TruncatedBodyError),
    "end in a chunk size": (CHUNKED + b"2", TruncatedBodyError),
    "end in a chunk": (CHUNKED + b"2\r\nh", TruncatedBodyError),
    "end between chunks": (CHUNKED + b"2\r\nhi\r\n", TruncatedBodyError),
    "end before the trailers": (CHUNKED + b"2\r\nhi\r\n0\r\n", TruncatedBodyError),
    "choices": (b"HTTP/1.1 300 X\r\nLocation: /ok\r\n" + HI, HTTPStatusError),
    "not modified unasked": (b"HTTP/1.1 304 X\r\nLocation: /ok\r\n\r\n", HTTPStatusError),
    "use a proxy": (b"HTTP/1.1 305 X\r\nLocation: /ok\r\n" + HI, HTTPStatusError),
    "created elsewhere": (b"HTTP/1.1 201 X\r\nLocation: /ok\r\n" + HI, HTTPStatusError),
    "reset content": (b"HTTP/1.1 205 X\r\nContent-Length: 0\r\n\r\n", HTTPStatusError),
    "log in": (b'HTTP/1.1 401 X\r\nWWW-Authenticate: Basic realm="x"\r\n' + HI, HTTPStatusError),
    "log in to a proxy": (b'HTTP/1.1 407 X\r\nProxy-Authenticate: Basic realm="x"\r\n' + HI, HTTPStatusError),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad(get: Get, server: FaultyServer, name: str) -> None:
    server.on("/ok", respond(b"ok"))
    data, expected = BAD[name]
    with pytest.raises(expected) as caught:
        get(server.on("/x", send_raw(data)))
    assert caught.value.exit_code in {ExitCode.NETWORK, ExitCode.INVALID_DATA}
    assert server.counts["/x"] == (QUICK.attempts if caught.value.is_transient else 1)


LATER = [
    *("9" * 400, "-5", "nan", "inf", "1e99", "\xb2", ""),
    "Fri, 31 Dec 99999 23:59:59 GMT",
    "Fri, 31 Dec 9999 23:59:59 -9999",
    "Thu, 01 Jan 1970 00:00:00 +9999",
    "Fri, 31 Dec 2099 23:59:59 -0000",
    f"Fri, 31 Dec {'9' * 5000} 23:59:59 GMT",
]


@pytest.mark.parametrize("text", LATER)
def test_what_is_said_about_later_is_never_an_error(
    fetcher: Fetcher, server: FaultyServer, text: str
) -> None:
    busy = (
        f"HTTP/1.1 503 X\r\nRetry-After: {text}\r\nLast-Modified: {text}\r\nDate: {text}\r\n".encode(
            "latin-1"
        )
        + HI
    )
    assert fetcher.get(server.on("/x", send_raw(busy), respond(b"ok")), limit_bytes=LIMIT).body == b"ok"
    assert fetch(fetcher, server.on("/y", send_raw(busy), respond(b"ok"))) == b"ok"


DRIPS: dict[str, tuple[bytes, bytes]] = {
    "a field": (OK + b"X: ", b"x"),
    "fields": (OK, b"X: y\r\n"),
    "the status": (b"HTTP/1.1 200 ", b"O"),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "other interim answers": (b"", b"HTTP/1.1 103 Early Hints\r\nA: b\r\n\r\n"),
    "a chunk extension": (CHUNKED + b"5;a=", b"x"),
    "chunk sizes of leading zeros": (CHUNKED, b"0"),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\n", b"A: b\r\n"),
    "a trailer": (CHUNKED + b"2\r\nhi\r\n0\r\nA: ", b"b"),
    "tiny chunks": (CHUNKED, b"1;" + b"x" * 100 + b"\r\nh\r\n"),
}


@pytest.mark.parametrize("name", DRIPS)
def test_what_drips_beside_a_body_does_not_keep_it_alive(
    transport: Transport, server: FaultyServer, name: str
) -> None:
    stall_s = 1.0 if transport is Transport.CURL else 0.3  # libcurl has whole seconds
    limits = replace(BRIEF, stall_timeout_s=stall_s, low_speed_time_s=stall_s)
    fetcher = open_fetcher(limits, transport=transport)
    with pytest.raises((FetchTimeoutError, ConnectFailedError)):
        fetcher.get(server.on("/x", send_on_and_on(*DRIPS[name])), limit_bytes=LIMIT)
    fetcher.close()


FLOODS: dict[str, tuple[bytes, bytes]] = {
    "fields": (OK, b"X: yyyyyyyyyyyyyyyyyyyyyyyy\r\n" * 1000),
    "a field": (OK + b"X: ", b"y" * 100_000),
    "interim answers": (b"", b"HTTP/1.1 100 Continue\r\n\r\n" * 1000),
    "trailers": (CHUNKED + b"2\r\nhi\r\n0\r\n", b"A: b\r\n" * 10_000),
    "a chunk extension": (CHUNKED + b"5;a=", b"x" * 100_000),
}


@pytest.mark.parametrize("name", FLOODS)
def test_floods_beside_a_body_are_refused(get: Get, server: FaultyServer, name: str) -> None:
    with pytest.raises(TransferError) as caught:
        get(server.on("/x", send_on_and_on(*FLOODS[name], pause_s=0, times=400)))
    assert not isinstance(caught.value, HTTPStatusError)


def test_a_document_of_tiny_chunks(fetcher: Fetcher, server: FaultyServer) -> None:
    data = CHUNKED + b"2\r\nhi\r\n" * 20_000 + b"0\r\n\r\n"
    assert fetcher.get(server.on("/x", send_raw(data)), limit_bytes=LIMIT).body == b"hi" * 20_000


def test_redirects_count_against_one_deadline(transport: Transport, server: FaultyServer) -> None:
    fetcher = open_fetcher(replace(BRIEF, answer_timeout_s=0.5, redirects=10**6), transport=transport)
    with pytest.raises(FetchTimeoutError):
        fetcher.get(
            server.on("/x", send_raw(b"HTTP/1.1 302 X\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")),
            limit_bytes=9,
        )
    fetcher.close()


def test_a_body_counts_against_another_deadline(transport: Transport, server: FaultyServer) -> None:
    limits = replace(BRIEF, exchange_timeout_s=0.5, low_speed_bytes_per_s=1)
    fetcher = open_fetcher(limits, transport=transport)
    job = Body(server.on("/x", send_on_and_on(OK + b"\r\n", b"x" * 500, times=2000)))
    with pytest.raises(FetchTimeoutError):
        transfer(fetcher, [job])
    assert job.aborted == len(job.chunks) == 1
    fetcher.close()


TARGETS: dict[str, tuple[str, bytes | type[CfsError]]] = {
    "relative": ("ok", b"ok"),
    "absolute path": ("/ok", b"ok"),
    "above the root": ("/../../ok", b"ok"),
    "with a fragment": ("/ok#part", b"ok"),
    "capitals": ("HTTP://127.0.0.1:PORT/ok", b"ok"),
    "no scheme": ("//127.0.0.1:PORT/ok", b"ok"),
    "user and password": ("http://u:p@127.0.0.1:PORT/ok", b"ok"),
    "a space": ("/o k", b"space"),
    "bytes that are not ASCII": ("/\xe4", b"umlaut"),
    "empty": ("", HTTPStatusError),
    "half an IPv6 address": ("http://[::1/x", RedirectError),
    "a bracket": ("http://[", RedirectError),
    "an IPv4 address in brackets": ("http://[127.0.0.1]:PORT/ok", RedirectError),
    "a port out of range": ("http://127.0.0.1:99999/", RedirectError),
    "a port of letters": ("http://127.0.0.1:abc/", RedirectError),
    "a port below 0": ("http://127.0.0.1:-1/", RedirectError),
    "no host": ("http:///x", RedirectError),
    "a scheme and no more": ("http:", RedirectError),
    "a scheme and a path": ("http:/ok", RedirectError),
    "a scheme and a name": ("http:ok", RedirectError),
    "slashes": ("//", RedirectError),
    "three slashes": ("///ok", RedirectError),
    "backslashes": ("http:\\\\127.0.0.1:PORT\\ok", RedirectError),
    "a control character": ("/a\x01b", RedirectError),
    "a tabulator": ("/o\tk", RedirectError),
    "a file": ("file:///etc/passwd", RedirectError),
    "FTP": ("ftp://127.0.0.1/x", RedirectError),
    "gopher": ("gopher://127.0.0.1:70/x", RedirectError),
    "a dictionary": ("dict://127.0.0.1:11/", RedirectError),
    "LDAP": ("ldap://127.0.0.1/x", RedirectError),
    "SMB": ("smb://127.0.0.1/x", RedirectError),
    "data": ("data:,hi", RedirectError),
    "a script": ("javascript:x", RedirectError),
    "a web socket": ("ws://127.0.0.1:PORT/ok", RedirectError),
    "a name that cannot be one": ("http://" + "a" * 70 + ".invalid/", ConnectFailedError),
    "a name of other letters": ("http://\xe4\xff.invalid/", (TransferError)),
    "long": ("/" + "a" * 60_000, HTTPStatusError),
}  # fmt: skip


@pytest.mark.parametrize("name", TARGETS)
def test_redirects(get: Get, server: FaultyServer, name: str) -> None:
    server.on("/ok", respond(b"ok"))
    server.on("/o%20k", respond(b"space"))
    server.on("/%E4", respond(b"umlaut"))
    target, expected = TARGETS[name]
    target = target.replace("PORT", server.url.rpartition(":")[2])
    url = server.on(
        "/x", send_raw(f"HTTP/1.1 302 X\r\nLocation: {target}\r\nContent-Length: 0\r\n\r\n".encode("latin-1"))
    )
    if isinstance(expected, bytes):
        assert get(url) == expected
        return
    with pytest.raises(expected):
        get(url)
    assert server.counts["/x"] in {1, QUICK.attempts}


def test_a_redirect_with_two_targets_is_refused(get: Get, server: FaultyServer) -> None:
    server.on("/ok", respond(b"ok"))
    data = b"HTTP/1.1 302 X\r\nLocation: /ok\r\nLocation: /other\r\nContent-Length: 0\r\n\r\n"
    with pytest.raises((RedirectError, MalformedAnswerError)):
        get(server.on("/x", send_raw(data)))


@pytest.mark.parametrize("size", [10, 5000, LIMIT * 2])
def test_the_page_of_a_redirect_goes_nowhere(get: Get, server: FaultyServer, size: int) -> None:
    server.on("/ok", respond(b"ok"))
    assert get(server.on("/x", respond(b"p" * size, 302, Location="/ok"))) == b"ok"


def test_a_redirect_by_way_of_two_that_lead_to_each_other(get: Get, server: FaultyServer) -> None:
    server.on("/y", respond(b"", 301, Location="/x"))
    with pytest.raises(RedirectError, match="more than 10"):
        get(server.on("/x", respond(b"", 307, Location="y")))
    assert server.counts["/x"] + server.counts["/y"] == QUICK.redirects + 1


@pytest.mark.parametrize(
    "proxy", ["file:///etc/passwd", "http://", "http://[", "ftp://x/", "a b", "http://x:99999", "\xe4", "//"]
)
def test_a_proxy_that_is_none_is_a_mistake_of_the_user(
    transport: Transport, server: FaultyServer, proxy: str
) -> None:
    fetcher = open_fetcher(QUICK, Options(proxies={"http": proxy}), transport=transport)
    with pytest.raises(InvalidURLError, match="proxy"):
        fetcher.get(server.on("/x", respond(b"ok")), limit_bytes=LIMIT)
    with pytest.raises(InvalidURLError, match="proxy"):
        fetch(fetcher, server.url + "/x")
    fetcher.close()


DIRECT = ["127.0.0.1", "127.0.0.1:PORT", "127.0.0.0/8", "127.0.0.1/32", "10.0.0.0/8,127.0.0.0/30", "x, *"]
BY_PROXY = ["127.0.0.1:1", "10.0.0.0/8", ".0.0.1", "0.0.1", "[::1]", "127.0.0.0/99", "::/0", "", ",,"]
NO_PROXY = [*((text, True) for text in DIRECT), *((text, False) for text in BY_PROXY)]


@pytest.mark.parametrize(("no_proxy", "is_direct"), NO_PROXY)
def test_hosts_exempt_from_a_proxy(
    transport: Transport, server: FaultyServer, no_proxy: str, *, is_direct: bool
) -> None:
    text = no_proxy.replace("PORT", server.url.rpartition(":")[2])
    fetcher = open_fetcher(QUICK, Options(proxies={"http": server.url}, no_proxy=text), transport=transport)
    url = server.on("/x", respond(b"direct"))
    server.on(url, respond(b"by proxy"))
    assert fetch(fetcher, url) == (b"direct" if is_direct else b"by proxy")
    fetcher.close()


def test_the_proxy_is_chosen_anew_after_a_redirect(transport: Transport, server: FaultyServer) -> None:
    options = Options(proxies={"http": server.url}, no_proxy="127.0.0.0/8")
    fetcher = open_fetcher(QUICK, options, transport=transport)
    server.on("http://example.invalid/y", respond(b"by proxy"))
    assert (
        fetch(fetcher, server.on("/x", respond(b"", 302, Location="http://example.invalid/y"))) == b"by proxy"
    )
    assert fetch(fetcher, server.on("/z", respond(b"direct"))) == b"direct"
    fetcher.close()
