"""An old summary that is signed as well is not taken for the latest one."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl.digest import Checksum
from cfsctl.gvariant import Variant
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.ostree.summary.cache import SummaryCache
from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from cfsctl.ostree.trust.summary_age import SummaryAgeError
from cfsctl.ostree.trust.verdict import SignatureError
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support.signatures import sign_detached

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = Checksum(b"c" * 32)
KEY = Ed25519PrivateKey.generate()
TRUST = TrustPolicy(
    summaries=Requirement(engines=("ed25519",)),
    keys=[SignKey("ed25519", KEY.public_key().public_bytes_raw())],
)
MADE, EXPIRES = "ostree.summary.last-modified", "ostree.summary.expires"


def big_endian(seconds: int) -> Variant:
    return Variant("t", int.from_bytes(seconds.to_bytes(8, "big"), "little"))


def serve(server: FaultyServer, metadata: dict[str, Variant], key: Ed25519PrivateKey = KEY) -> None:
    body = format_summary(Summary({"x": SummaryRef("x", COMMIT, 100, ())}, list(metadata.items())))
    server.on("/summary", respond(body))
    server.on("/summary.sig", respond(sign_detached(key, body)))


_chosen = [Transport.REQUESTS]


@pytest.fixture(autouse=True)
def _choose(transport: Transport) -> None:
    """Have every test here run with both transports."""
    _chosen[0] = transport


def resolve(
    server: FaultyServer, directory: Path | None, trust: TrustPolicy | None = TRUST, **options: bool
) -> Checksum:
    cache = None if directory is None else SummaryCache(str(directory))
    fetcher = open_fetcher(QUICK, transport=_chosen[0])
    source = RemoteSource(server.url, fetcher, trust, cache=cache, **options)  # type: ignore[arg-type]  # flags
    try:
        return source.resolve_ref("x")
    finally:
        source.close()


def test_an_older_one_is_refused_until_it_is_allowed(server: FaultyServer, tmp_path: Path) -> None:
    for seconds in (1000, 1000, 2000):
        serve(server, {MADE: big_endian(seconds)})
        assert resolve(server, tmp_path) == COMMIT
    serve(server, {MADE: big_endian(1999)})
    with pytest.raises(
        SummaryAgeError, match=r"1970-01-01 00:33:20 UTC or later, found one of .*00:33:19 UTC"
    ):
        resolve(server, tmp_path)
    assert resolve(server, tmp_path, allow_older_summary=True) == COMMIT
    assert resolve(server, tmp_path) == COMMIT


@pytest.mark.parametrize("variant", [None, Variant("s", "later"), Variant("u", 5000)])
def test_one_that_does_not_say_counts_as_older(
    server: FaultyServer, tmp_path: Path, variant: Variant | None
) -> None:
    metadata = {} if variant is None else {MADE: variant}
    serve(server, metadata)
    assert resolve(server, tmp_path) == COMMIT
    serve(server, {MADE: big_endian(1000)})
    assert resolve(server, tmp_path) == COMMIT
    serve(server, metadata)
    with pytest.raises(SummaryAgeError, match="found one that does not say"):
        resolve(server, tmp_path)


def test_only_what_is_verified_counts(server: FaultyServer, tmp_path: Path) -> None:
    """Else anybody on the way could keep the real one out by a time to come."""
    serve(server, {MADE: big_endian(1 << 40)})
    assert resolve(server, tmp_path, trust=None) == COMMIT
    serve(server, {MADE: big_endian(1 << 40)}, Ed25519PrivateKey.generate())
    with pytest.raises(SignatureError):
        resolve(server, tmp_path)
    serve(server, {MADE: big_endian(1000)})
    assert resolve(server, tmp_path) == COMMIT


def test_servers_are_told_apart(tmp_path: Path) -> None:
    with FaultyServer() as one, FaultyServer() as two:
        serve(one, {MADE: big_endian(2000)})
        serve(two, {MADE: big_endian(1000)})
        assert [resolve(server, tmp_path) for server in (one, two, one, two)] == [COMMIT] * 4


@pytest.mark.parametrize("content", [b"", b"[]", b'{"made_s": 9e99}', b"\xff", b'{"url": 1, "made_s": 1}'])
def test_a_damaged_record_is_none(server: FaultyServer, tmp_path: Path, content: bytes) -> None:
    serve(server, {MADE: big_endian(2000)})
    assert resolve(server, tmp_path) == COMMIT
    (record,) = tmp_path.glob("*.time")
    assert json.loads(record.read_bytes())["made_s"] == 2000
    record.write_bytes(content)
    serve(server, {MADE: big_endian(1000)})
    assert resolve(server, tmp_path) == COMMIT


def test_an_expired_one(server: FaultyServer) -> None:
    serve(server, {EXPIRES: big_endian(int(time.time()) + 1000)})
    assert resolve(server, None) == COMMIT
    serve(server, {EXPIRES: big_endian(1000)})
    with pytest.raises(SummaryAgeError, match="that expired at 1970-01-01 00:16:40 UTC") as caught:
        resolve(server, None)
    assert caught.value.exit_code == 14
    assert resolve(server, None, trust=None) == COMMIT
