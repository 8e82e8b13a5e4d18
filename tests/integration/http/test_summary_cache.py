"""Summaries are asked for with a condition, and those of two servers never mix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.fetcher import Response
from cfsctl.ostree.remote import RemoteSource
from cfsctl.ostree.summary import Summary, SummaryRef, format_summary
from cfsctl.ostree.summary_cache import SummaryCache
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from cfsctl.progress import Event
    from tests.fakes.faulty_server import Exchange

ONE, TWO = (Checksum(name * 32) for name in (b"1", b"2"))


def summary(commit: Checksum) -> bytes:
    return format_summary(Summary({"x": SummaryRef("x", commit, 100, ())}, ()))


class Versions:
    """Serves a summary, and says 304 to whoever has it."""

    def __init__(self, server: FaultyServer, field: str = "ETag") -> None:
        self._server = server
        self._field = field
        self.statuses: list[int] = []
        self.show(ONE, "version-1")
        server.on("/summary", self.react)

    def show(self, commit: Checksum, version: str) -> None:
        self.body, self.version = summary(commit), version

    def react(self, exchange: Exchange) -> bool:
        asked = self._server.seen["/summary"][-1]
        condition = asked.get("if-none-match" if self._field == "ETag" else "if-modified-since")
        self.statuses.append(304 if condition == self.version else 200)
        if self.statuses[-1] == 304:
            return respond(b"", 304)(exchange)
        if self._field == "ETag":
            return respond(self.body, ETag=self.version)(exchange)
        return respond(self.body, Last_Modified=self.version)(exchange)


def resolve(url: str, directory: Path, transport: Transport) -> Checksum:
    source = RemoteSource(url, open_fetcher(QUICK, transport=transport), cache=SummaryCache(str(directory)))
    try:
        return source.resolve_ref("x")
    finally:
        source.close()


@pytest.mark.parametrize("field", ["ETag", "Last-Modified"])
def test_what_has_not_changed_is_not_sent(
    server: FaultyServer, tmp_path: Path, transport: Transport, field: str
) -> None:
    versions = Versions(server, field)
    cache = tmp_path / "deep/cache"
    assert [resolve(server.url, cache, transport) for _ in range(2)] == [ONE, ONE]
    versions.show(TWO, "version-2")
    assert [resolve(server.url, cache, transport) for _ in range(2)] == [TWO, TWO]
    assert versions.statuses == [200, 304, 200, 304]


def test_two_servers_with_the_same_version_do_not_mix(tmp_path: Path, transport: Transport) -> None:
    with FaultyServer() as one, FaultyServer() as two:
        Versions(one)
        Versions(two).show(TWO, "version-1")
        for _ in range(2):
            assert resolve(one.url, tmp_path, transport) == ONE
            assert resolve(two.url, tmp_path, transport) == TWO


@pytest.mark.parametrize("damage", ["body", "head", "empty", "other", "deep", "directory"])
def test_a_damaged_entry_is_none(
    server: FaultyServer, tmp_path: Path, transport: Transport, damage: str
) -> None:
    versions = Versions(server)
    assert resolve(server.url, tmp_path, transport) == ONE
    (entry,) = tmp_path.iterdir()
    data = entry.read_bytes()
    if damage == "directory":
        entry.unlink()
        entry.mkdir()
    else:
        head, body = data.split(b"\n", 1)
        entry.write_bytes(
            {
                "body": data[:-1] + bytes([data[-1] ^ 1]),
                "head": b"[]\n" + body,
                "empty": b"",
                "deep": b"[" * 10_000 + b"\n" + body,
                "other": head.replace(b"127.0.0.1", b"127.0.0.2") + b"\n" + body,
            }[damage]
        )
    assert resolve(server.url, tmp_path, transport) == ONE
    assert versions.statuses == [200, 200]


def test_a_kept_summary_that_is_none_is_asked_for_again(
    server: FaultyServer, tmp_path: Path, transport: Transport
) -> None:
    cache = SummaryCache(str(tmp_path))
    cache.save(f"{server.url}/summary", Response(200, b"<html>", "version-1", None))
    versions = Versions(server)
    assert resolve(server.url, tmp_path, transport) == ONE
    assert versions.statuses == [304, 200]


@pytest.mark.parametrize("who", ["others", "the group", "somebody else"])
def test_what_somebody_else_can_have_written_is_not_believed(
    server: FaultyServer, tmp_path: Path, transport: Transport, who: str
) -> None:
    if who == "somebody else" and os.geteuid() != 0:
        pytest.skip("needs root to give a directory away")
    versions = Versions(server)
    cache = tmp_path / "cache"
    assert resolve(server.url, cache, transport) == ONE
    match who:
        case "others":
            cache.chmod(0o1777)
        case "the group":
            cache.chmod(0o770)
        case _:
            os.chown(cache, 65534, 65534)
    assert resolve(server.url, cache, transport) == ONE
    assert versions.statuses == [200, 200]
    messages: list[Event] = []
    shared = SummaryCache(str(cache), messages.append)
    url = f"{server.url}/summary"
    assert (shared.find(url), shared.find_time(url)) == (None, None)
    shared.save_time(url, 5)
    assert len(messages) == 1
    assert f"the summary cache {cache} is not used" in str(messages[0])
    assert len(os.listdir(cache)) == 1


def test_what_cannot_be_kept_is_no_error(server: FaultyServer, transport: Transport) -> None:
    versions = Versions(server)
    for _ in range(2):
        assert resolve(server.url, Path("/proc/nothing"), transport) == ONE
    assert versions.statuses == [200, 200]


def test_the_password_is_not_kept(tmp_path: Path) -> None:
    cache = SummaryCache(str(tmp_path))
    cache.save("http://me:hidden@here/summary", Response(200, b"body", "e", None))
    assert b"hidden" not in next(tmp_path.iterdir()).read_bytes()
    assert cache.find("http://me:other@here/summary") is not None
    for url in (
        "http://here/summary",
        "http://you@here/summary",
        "https://me@here/summary",
        "http://me@here:1/summary",
    ):
        assert cache.find(url) is None


def test_the_program_keeps_summaries(server: FaultyServer, tmp_path: Path) -> None:
    versions = Versions(server)
    for options in ((), (), ("--summary-cache", ""), ("--summary-cache", str(tmp_path / "own"))):
        done = subprocess.run(
            [CFSCTL, "ostree", "list-refs", server.url, *options],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env={"PATH": "/usr/bin", "XDG_CACHE_HOME": str(tmp_path / "cache")},
        )
        assert ONE.hex() in done.stdout
    assert versions.statuses == [200, 304, 200, 200]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "own"]
