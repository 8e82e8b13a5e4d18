"""Summaries are asked for with a condition, and those of two servers never mix."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.http import Transport, open_fetcher
from cfsctl.http.fetcher import Response
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.ostree.summary.cache import SummaryCache
from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support.programs import CFSCTL

if TYPE_CHECKING:
    from cfsctl.progress import Event
    from tests.fakes.faulty_server import Exchange

ONE, TWO = (Checksum(name * 32) for name in (b"1", b"2"))


def summary(commit: Checksum) -> bytes:
    return format_summary(Summary({"x": SummaryRef("x", commit, 100, ())}, ()))


def at(second: int) -> str:
    return f"Tue, 28 Nov 2023 10:00:{second:02} GMT"


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
        return respond(self.body, Last_Modified=self.version, Date=at(30))(exchange)


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
    versions.show(ONE, "version-1" if field == "ETag" else at(10))
    cache = tmp_path / "deep/cache"
    assert [resolve(server.url, cache, transport) for _ in range(2)] == [ONE, ONE]
    versions.show(TWO, "version-2" if field == "ETag" else at(20))
    assert [resolve(server.url, cache, transport) for _ in range(2)] == [TWO, TWO]
    assert versions.statuses == [200, 304, 200, 304]


class Answers:
    """Serves one summary after the other with the same fields, and says 304 to whoever has any of them."""

    def __init__(self, server: FaultyServer, fields: dict[str, str], made_s: int | None = None) -> None:
        self._server = server
        self._made_s = made_s
        self._fields = fields
        self.commit = ONE
        self.statuses: list[int] = []
        server.on("/summary", self.react)

    def react(self, exchange: Exchange) -> bool:
        asked = self._server.seen["/summary"][-1]
        is_known = bool({"if-none-match", "if-modified-since"} & {*asked})
        self.statuses.append(304 if is_known else 200)
        if is_known:
            return respond(b"", 304)(exchange)
        metadata = []
        if self._made_s is not None:
            value = int.from_bytes(self._made_s.to_bytes(8, "big"), "little")
            metadata.append(("ostree.summary.last-modified", Variant("t", value)))
        body = format_summary(Summary({"x": SummaryRef("x", self.commit, 100, ())}, metadata))
        return respond(body, 200, **self._fields)(exchange)


NGINX = '"6a195ea0-2c8"'
NOON_S = 1701165600
"""Ten o'clock on that day, in seconds since 1970."""

WEAK = {
    "same-second": {"Last_Modified": at(10), "Date": at(10), "ETag": NGINX},
    "next-second": {"Last_Modified": at(10), "Date": at(11), "ETag": NGINX},
    "date-only": {"Last_Modified": at(10), "Date": at(11)},
    "no-date": {"Last_Modified": at(10), "ETag": NGINX},
    "no-date-known": {"Last_Modified": at(10), "Date": "now", "ETag": NGINX},
    "fixed": {"Last_Modified": "Thu, 01 Jan 1970 00:00:01 GMT", "Date": at(30), "ETag": '"1-2c8"'},
    "weak": {"ETag": f"W/{NGINX}"},
    "weak-hash": {"ETag": 'W/"0123456789abcdef0123456789abcdef"', "Last_Modified": at(10), "Date": at(10)},
    "odd-date": {"Last_Modified": "Sat, 99 Nov 2026 10:00:10 GMT", "Date": at(30)},
}

GOOD = {
    "over": {"Last_Modified": at(10), "Date": at(12), "ETag": NGINX},
    "date-only-over": {"Last_Modified": at(10), "Date": at(12)},
    "hash": {"Last_Modified": at(10), "Date": at(10), "ETag": '"0123456789abcdef0123456789abcdef"'},
    "tag-only": {"ETag": '"one"'},
    "weak-over": {"Last_Modified": at(10), "Date": at(12), "ETag": f"W/{NGINX}"},
}


@pytest.mark.parametrize("case", [*WEAK, *GOOD])
def test_what_another_version_might_share_is_not_relied_on(
    server: FaultyServer, tmp_path: Path, case: str
) -> None:
    answers = Answers(server, (WEAK | GOOD)[case])
    assert resolve(server.url, tmp_path, Transport.REQUESTS) == ONE
    answers.commit = TWO
    assert resolve(server.url, tmp_path, Transport.REQUESTS) == (TWO if case in WEAK else ONE)
    assert answers.statuses == [200, 200 if case in WEAK else 304]


@pytest.mark.parametrize("made_s", [NOON_S + 10, NOON_S + 11, NOON_S + 12, NOON_S + 10_000])
def test_a_file_older_than_its_content_has_a_time_that_was_set(
    server: FaultyServer, tmp_path: Path, made_s: int
) -> None:
    answers = Answers(server, {"Last_Modified": at(10), "Date": at(30), "ETag": NGINX}, made_s)
    for _ in range(2):
        resolve(server.url, tmp_path, Transport.REQUESTS)
    assert answers.statuses[1] == (304 if made_s <= NOON_S + 11 else 200)


def test_entries_that_were_kept_without_a_look_at_their_date(server: FaultyServer, tmp_path: Path) -> None:
    answers = Answers(server, GOOD["over"])
    assert resolve(server.url, tmp_path, Transport.REQUESTS) == ONE
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes().replace(b'"version": 2, ', b""))
    answers.commit = TWO
    assert resolve(server.url, tmp_path, Transport.REQUESTS) == TWO


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
    cache.save("http://me:hidden@here/summary", Response(200, b"body", "version-1", None))
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
