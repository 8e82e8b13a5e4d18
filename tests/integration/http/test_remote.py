"""A repository on a web server as a source: refs, objects, and what goes wrong with them."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

import pytest

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import DigestMismatchError, ExitCode, RefNotFoundError
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.errors import ConnectFailedError, HTTPStatusError, TooLargeError, TruncatedBodyError
from cfsctl.http.urls import InvalidURLError
from cfsctl.ostree.limits import LimitError
from cfsctl.ostree.objects import ObjectKind, loose_path
from cfsctl.ostree.source import InvalidRefError, SourceObjectMissingError
from cfsctl.ostree.sources.remote import NoServedRepositoryError, RemoteSource
from cfsctl.ostree.sources.summary_reader import NoSummaryError
from cfsctl.ostree.summary.format import SummaryError
from tests.fakes.faulty_server import FaultyServer, announce, endless, respond
from tests.integration.http.jobs import QUICK
from tests.support.nginx import find_free_port

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ONE = Checksum(bytes(range(32)))
TWO = Checksum(bytes(range(32, 64)))
HTML = b"<!DOCTYPE html><html><head><title>Login</title></head><body>Log in.</body></html>\n"


def format_refs(*refs: tuple[str, Checksum, int]) -> bytes:
    value: gvariant.Value = ([(name, (size, bytes(checksum), [])) for name, checksum, size in refs], [])
    return gvariant.encode("(a(s(taya{sv}))a{sv})", value)


@pytest.fixture
def source(transport: Transport, server: FaultyServer) -> Iterator[RemoteSource]:
    source = RemoteSource(server.url, open_fetcher(QUICK, transport=transport))
    yield source
    source.close()


@pytest.mark.parametrize("ending", [b"", b"\n", b"\r\n", b"  \n\n"])
def test_a_ref_file(source: RemoteSource, server: FaultyServer, ending: bytes) -> None:
    server.on("/refs/heads/x", respond(ONE.hex().encode() + ending))
    assert source.resolve_ref("x") == ONE


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("app/org.x/x86_64/stable", "app/org.x/x86_64/stable"),
        ("a b", "a%20b"),
        ("x%2Fy", "x%252Fy"),
        ("what?#", "what%3F%23"),
        ("é/ü", "%C3%A9/%C3%BC"),
        ("a+b", "a%2Bb"),
    ],
)
def test_names_are_encoded_by_component(
    source: RemoteSource, server: FaultyServer, name: str, path: str
) -> None:
    server.on(f"/refs/heads/{path}", respond(ONE.hex().encode()))
    assert source.resolve_ref(name) == ONE


@pytest.mark.parametrize("name", ["", "/x", "x/", "a//b", "..", "../x", "a/../b", "./x", "a\nb", "a\0b"])
def test_names_that_are_none(source: RemoteSource, server: FaultyServer, name: str) -> None:
    with pytest.raises(InvalidRefError, match="cannot be the name"):
        source.resolve_ref(name)
    assert not server.counts


def test_the_summary_goes_before_the_ref_file(source: RemoteSource, server: FaultyServer) -> None:
    server.on("/summary", respond(format_refs(("x", ONE, 100), ("y", TWO, 100))))
    server.on("/refs/heads/x", respond(TWO.hex().encode()))
    server.on("/refs/heads/z", respond(TWO.hex().encode()))
    assert source.resolve_ref("x") == ONE
    assert source.resolve_ref("z") == TWO
    assert [(ref.name, ref.checksum) for ref in source.list_refs()] == [("x", ONE), ("y", TWO)]
    assert server.counts == {"/summary": 1, "/refs/heads/z": 1}


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_ref_that_is_nowhere(source: RemoteSource, server: FaultyServer, status: int) -> None:
    server.on("/config", respond(b"[core]\n"))
    server.on("/summary", respond(HTML, status))
    server.on("/refs/heads/x", respond(HTML, status))
    with pytest.raises(RefNotFoundError, match=f"ref 'x' not found in {server.url}/") as caught:
        source.resolve_ref("x")
    assert caught.value.exit_code is ExitCode.NOT_FOUND
    with pytest.raises(NoSummaryError, match="no summary available from remote"):
        source.list_refs()
    assert server.counts["/summary"] == 1


@pytest.mark.parametrize("status", [403, 404, 410])
def test_a_server_without_a_repository(source: RemoteSource, server: FaultyServer, status: int) -> None:
    for path in ("/config", "/summary", "/refs/heads/x"):
        server.on(path, respond(HTML, status))
    for ask in (lambda: source.resolve_ref("x"), source.list_refs):
        with pytest.raises(NoServedRepositoryError, match=f"{server.url}/ .*{status}") as caught:
            ask()
        assert caught.value.exit_code is ExitCode.NETWORK
        assert "credentials" in (caught.value.hint or "") or status != 403


@pytest.mark.parametrize(
    "body",
    [
        b"",
        HTML,
        ONE.hex().upper().encode(),
        ONE.hex().encode()[:-1],
        ONE.hex().encode() + b"0",
        ONE.hex().encode() + b"junk",
        ONE.hex().encode() + b"\n" + TWO.hex().encode(),
        b" " + ONE.hex().encode(),
        b"\xff" * 64,
    ],
)
def test_a_ref_file_that_holds_no_checksum(source: RemoteSource, server: FaultyServer, body: bytes) -> None:
    server.on("/refs/heads/x", respond(body))
    with pytest.raises(InvalidRefError, match=r"ref 'x' of http.*expected 64") as caught:
        source.resolve_ref("x")
    assert (caught.value.hint is not None) == (body == HTML)


@pytest.mark.parametrize(
    "reaction", [respond(ONE.hex().encode() + b" " * 300_000), endless(ONE.hex().encode())]
)
def test_a_huge_ref_file(source: RemoteSource, server: FaultyServer, reaction: Callable[..., bool]) -> None:
    server.on("/refs/heads/x", reaction)
    with pytest.raises(TooLargeError, match=r"ref 'x': .*256 bytes"):
        source.resolve_ref("x")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (HTML, "summary of http"),
        (format_refs(("x", ONE, 1), ("x", TWO, 1)), "ref 'x': expected once"),
        (format_refs(("x", Checksum(ONE[:31]), 1)), "found 31"),
    ],
    ids=["html", "twice", "31"],
)
def test_a_summary_that_is_none(
    source: RemoteSource, server: FaultyServer, body: bytes, message: str
) -> None:
    server.on("/summary", respond(body))
    server.on("/refs/heads/x", respond(ONE.hex().encode()))
    with pytest.raises(SummaryError, match=message) as caught:
        source.resolve_ref("x")
    assert (caught.value.hint is not None) == (body == HTML)
    with pytest.raises(SummaryError):
        source.list_refs()


def test_faults_of_control_requests_name_what_was_wanted(source: RemoteSource, server: FaultyServer) -> None:
    server.on("/summary", respond(b"busy", 503))
    with pytest.raises(HTTPStatusError, match=f"^summary: {server.url}/summary: .*503"):
        source.resolve_ref("x")
    server.on("/summary", respond(b"", 404))
    server.on("/refs/heads/x", announce(64, b"123"))
    with pytest.raises(TruncatedBodyError, match=r"^ref 'x': "):
        source.resolve_ref("x")
    nowhere = RemoteSource(f"http://me:pw@127.0.0.1:{find_free_port()}", open_fetcher(QUICK))
    with pytest.raises(ConnectFailedError, match=r"^summary: http://127"):
        nowhere.resolve_ref("x")


def path_of(checksum: Checksum, kind: ObjectKind) -> str:
    return "/" + loose_path(checksum, kind)


def fetch_metadata(source: RemoteSource, *wanted: tuple[Checksum, ObjectKind]) -> list[tuple[object, ...]]:
    pending = list(reversed(wanted))
    delivered: list[tuple[object, ...]] = []
    source.fetch_metadata(
        lambda: pending.pop() if pending else None, lambda *result: delivered.append(result)
    )
    return delivered


def test_metadata_is_delivered_and_may_want_more(source: RemoteSource, server: FaultyServer) -> None:
    chain = [Checksum(os.urandom(32)) for _ in range(50)]
    for this, following in zip(chain, [*chain[1:], Checksum(b"")], strict=True):
        server.on(path_of(this, ObjectKind.DIRTREE), respond(following))
    wanted = [chain[0]]
    seen = []

    def deliver(checksum: Checksum, kind: ObjectKind, data: bytes) -> None:
        assert kind is ObjectKind.DIRTREE
        seen.append(checksum)
        if data:
            wanted.append(Checksum(data))

    source.fetch_metadata(lambda: (wanted.pop(), ObjectKind.DIRTREE) if wanted else None, deliver)
    assert seen == chain


@pytest.mark.parametrize("kind", [ObjectKind.COMMIT, ObjectKind.DIRTREE, ObjectKind.DIRMETA])
@pytest.mark.parametrize("status", [403, 404, 410])
def test_missing_metadata(source: RemoteSource, server: FaultyServer, kind: ObjectKind, status: int) -> None:
    server.on(path_of(ONE, kind), respond(HTML, status))
    with pytest.raises(
        SourceObjectMissingError, match=f"{kind.label} object {ONE.hex()} is missing"
    ) as caught:
        fetch_metadata(source, (ONE, kind))
    assert (caught.value.checksum, caught.value.kind) == (ONE, kind)


@pytest.mark.parametrize(
    ("reaction", "message"),
    [(respond(b"", 500), "status 500"), (announce(10, b"x"), "shorter"), (respond(b"", 401), "status 401")],
)
def test_faults_of_objects_name_the_object(
    source: RemoteSource, server: FaultyServer, reaction: Callable[..., bool], message: str
) -> None:
    server.on(path_of(ONE, ObjectKind.DIRTREE), reaction)
    server.on(path_of(ONE, ObjectKind.FILE), reaction)
    with pytest.raises(Exception, match=f"^dirtree object {ONE.hex()}: http.*{message}"):
        fetch_metadata(source, (ONE, ObjectKind.DIRTREE))
    with pytest.raises(Exception, match=f"^file object {ONE.hex()}: http.*{message}"):
        list(source.fetch_files([ONE], lambda _: FileSink()))


def test_a_commit_has_the_size_that_the_summary_says(source: RemoteSource, server: FaultyServer) -> None:
    server.on("/summary", respond(format_refs(("x", ONE, 10), ("y", TWO, 11))))
    for checksum in (ONE, TWO):
        server.on(path_of(checksum, ObjectKind.COMMIT), respond(b"elevenbytes"))
        server.on(path_of(checksum, ObjectKind.DIRMETA), respond(b"elevenbytes"))
    for name in ("x", "y"):
        source.resolve_ref(name)
    assert fetch_metadata(source, (TWO, ObjectKind.COMMIT), (ONE, ObjectKind.DIRMETA))
    with pytest.raises(TooLargeError, match=f"commit object {ONE.hex()}.*limit of 10 bytes"):
        fetch_metadata(source, (ONE, ObjectKind.COMMIT))


def test_an_endless_metadata_object(
    source: RemoteSource, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfsctl.ostree.sources.remote.MAX_METADATA_SIZE", 1 << 20)
    server.on(path_of(ONE, ObjectKind.DIRTREE), endless())
    with pytest.raises(TooLargeError, match=f"dirtree object {ONE.hex()}.*limit of 1048576 bytes"):
        fetch_metadata(source, (ONE, ObjectKind.DIRTREE))


def test_many_large_metadata_objects_at_once(
    source: RemoteSource, server: FaultyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cfsctl.ostree.sources.remote_jobs.MAX_HELD_BYTES", 1 << 20)
    wanted = [(Checksum(os.urandom(32)), ObjectKind.DIRTREE) for _ in range(4)]
    for checksum, kind in wanted:
        server.on(path_of(checksum, kind), endless())
    with pytest.raises(LimitError, match="dirtree object"):
        fetch_metadata(source, *wanted)
    # One after the other they have room.
    monkeypatch.setattr("cfsctl.ostree.sources.remote_jobs.MAX_HELD_BYTES", 4 << 20)
    for checksum, kind in wanted:
        server.on(path_of(checksum, kind), respond(bytes(1 << 20)))
    assert len(fetch_metadata(source, *wanted * 3)) == 12


@pytest.mark.parametrize(("body", "has_hint"), [(HTML, True), (b"other bytes", False)])
def test_an_object_that_is_a_web_page_gets_a_hint(
    source: RemoteSource, server: FaultyServer, body: bytes, *, has_hint: bool
) -> None:
    server.on(path_of(ONE, ObjectKind.COMMIT), respond(body))
    wanted = [(ONE, ObjectKind.COMMIT)]

    def deliver(_checksum: Checksum, _kind: ObjectKind, data: bytes) -> None:
        raise DigestMismatchError("commit", expected=ONE.hex(), actual=data.hex())

    with pytest.raises(DigestMismatchError) as caught:
        source.fetch_metadata(lambda: wanted.pop() if wanted else None, deliver)
    assert (caught.value.hint is not None) == has_hint


class FileSink:
    def __init__(self) -> None:
        self.data = b""
        self.is_aborted = False

    def write(self, chunk: bytes, /) -> None:
        self.data += chunk

    def finish(self) -> bytes:
        return self.data

    def abort(self) -> None:
        self.is_aborted = True


def test_files_go_through_their_sinks(source: RemoteSource, server: FaultyServer) -> None:
    bodies = {Checksum(os.urandom(32)): os.urandom(size) for size in (0, 1, 999, 1000, 1001, 50_000)}
    for checksum, body in bodies.items():
        server.on(path_of(checksum, ObjectKind.FILE), respond(body))
    assert sorted(source.fetch_files(bodies, lambda _: FileSink())) == sorted(bodies.values())


def test_a_missing_file(source: RemoteSource, server: FaultyServer) -> None:
    server.on(path_of(TWO, ObjectKind.FILE), endless())
    sinks = []

    def make_sink(checksum: Checksum) -> FileSink:
        assert checksum == TWO
        sinks.append(FileSink())
        return sinks[-1]

    with pytest.raises(SourceObjectMissingError, match=f"file object {ONE.hex()} is missing") as caught:
        list(source.fetch_files([TWO, ONE], make_sink))
    assert caught.value.hint is not None
    assert "archive" in caught.value.hint
    assert all(sink.is_aborted for sink in sinks)


@pytest.mark.parametrize(
    ("base", "path", "description"),
    [
        ("{url}", "/summary", "{url}/"),
        ("{url}/", "/summary", "{url}/"),
        ("{url}/a/b//", "/a/b/summary", "{url}/a/b/"),
        ("{url}/a?token=x", "/a/summary?token=x", "{url}/a/"),
        ("{url}/é%20(x)#part", "/%C3%A9%20(x)/summary", "{url}/%C3%A9%20(x)/"),
    ],
)
def test_base_urls(
    transport: Transport, server: FaultyServer, base: str, path: str, description: str
) -> None:
    server.on(path, respond(format_refs(("x", ONE, 1))))
    url = base.format(url=server.url)
    source = RemoteSource(url.replace("//", "//user:secret@", 1), open_fetcher(QUICK, transport=transport))
    assert source.resolve_ref("x") == ONE
    assert source.description == description.format(url=server.url)
    assert re.match("Basic ", server.seen[path][0]["authorization"])
    source.close()


@pytest.mark.parametrize("url", ["mailto:x", "file:///srv/repo", "/srv/repo", "http://", ""])
def test_urls_that_are_none_of_a_server(url: str) -> None:
    with pytest.raises(InvalidURLError):
        RemoteSource(url)
