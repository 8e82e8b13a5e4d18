"""Names from the summary of a subset, as `summary.idx` lists it."""

from __future__ import annotations

import gzip
import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import CfsError
from cfsctl.http import Transport, open_fetcher
from cfsctl.ostree.sources.remote import RemoteSource
from cfsctl.ostree.summary.format import Summary, SummaryRef, format_summary
from cfsctl.ostree.trust.keys import SignKey
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy
from tests.fakes.faulty_server import FaultyServer, respond
from tests.integration.http.jobs import QUICK
from tests.support.signatures import sign_detached

COMMIT = Checksum(b"c" * 32)
SUMMARY = format_summary(Summary({"app/x": SummaryRef("app/x", COMMIT, 100, ())}, ()))
DIGEST = hashlib.sha256(SUMMARY).digest()
KEY = Ed25519PrivateKey.generate()
TRUST = TrustPolicy(
    summaries=Requirement(engines=("ed25519",)),
    keys=[SignKey("ed25519", KEY.public_key().public_bytes_raw())],
)


def index(*subsets: tuple[str, bytes]) -> bytes:
    entries: list[Any] = [(name, (checksum, [b"o" * 32], [])) for name, checksum in subsets]
    return gvariant.encode("(a{s(ayaaya{sv})}a{sv})", (entries, []))


INDEX = index(("aarch64", b"a" * 32), ("x86_64", DIGEST))
SUB_PATH = f"/summaries/{DIGEST.hex()}.gz"


@pytest.fixture
def site(server: FaultyServer) -> FaultyServer:
    server.on("/summary.idx", respond(INDEX))
    server.on(SUB_PATH, respond(gzip.compress(SUMMARY)))
    return server


_chosen = [Transport.REQUESTS]


@pytest.fixture(autouse=True)
def _choose(transport: Transport) -> None:
    """Have every test here run with both transports."""
    _chosen[0] = transport


def resolve(site: FaultyServer, subset: str = "x86_64", trust: TrustPolicy | None = None) -> Checksum:
    fetcher = open_fetcher(QUICK, transport=_chosen[0])
    source = RemoteSource(site.url, fetcher, trust, subset=subset)
    try:
        return source.resolve_ref("app/x")
    finally:
        source.close()


def test_a_name_of_the_subset(site: FaultyServer) -> None:
    assert resolve(site) == COMMIT
    assert dict(site.counts) == {"/summary.idx": 1, SUB_PATH: 1}


def test_a_subset_that_is_not_there(site: FaultyServer) -> None:
    with pytest.raises(CfsError, match=r"subset 'arm' not found in summary.idx of") as caught:
        resolve(site, "arm")
    assert caught.value.hint == "subsets there: aarch64, x86_64"
    with pytest.raises(CfsError, match="summary of subset 'aarch64' is missing from"):
        resolve(site, "aarch64")
    site.on("/summary.idx", respond(b"", 404))
    with pytest.raises(CfsError, match=r"no summary\.idx available"):
        resolve(site)


BAD: dict[str, tuple[bytes, str]] = {
    "plain": (SUMMARY, "subsummary: gzip data: expected a gzip member, found bytes"),
    "cut": (gzip.compress(SUMMARY)[:-9], "subsummary: gzip data: unexpected end"),
    "junk": (
        gzip.compress(SUMMARY) + b"junk",
        "subsummary: gzip data: expected the end, found bytes 6a 75 6e 6b",
    ),
    "other": (gzip.compress(SUMMARY + b"."), "expected digest"),
    "bomb": (gzip.compress(bytes(3 << 20)), "expected at most 1048576 bytes, found more"),
    "nothing": (b"", "subsummary: gzip data: unexpected end"),
}


@pytest.mark.parametrize("case", sorted(BAD))
def test_a_subsummary_that_is_none(site: FaultyServer, case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cfsctl.ostree.summary.index.MAX_SUMMARY_SIZE", 1 << 20)
    body, text = BAD[case]
    site.on(SUB_PATH, respond(body))
    with pytest.raises(CfsError, match=text):
        resolve(site)


@pytest.mark.parametrize(
    ("body", "text"),
    [
        (b"<!DOCTYPE html><html></html>", "summary.idx of "),
        (index(("x86_64", b"short")), "subset 'x86_64': expected a checksum of 32 bytes, found 5"),
        (index(("x86_64", DIGEST), ("x86_64", DIGEST)), "subset 'x86_64': expected once, found again"),
    ],
    ids=["html", "short", "twice"],
)
def test_an_index_that_is_none(site: FaultyServer, body: bytes, text: str) -> None:
    site.on("/summary.idx", respond(body))
    with pytest.raises(CfsError, match=text):
        resolve(site)


@pytest.mark.parametrize(
    "name", [f"summaries/{hashlib.sha256(INDEX).hexdigest()}.idx.sig", "summary.idx.sig"]
)
def test_the_index_is_verified(site: FaultyServer, name: str) -> None:
    with pytest.raises(CfsError, match=r"summary\.idx of .*: expected a valid ed25519 signature"):
        resolve(site, trust=TRUST)

    site.on(f"/{name}", respond(sign_detached(KEY, INDEX + b".")))
    with pytest.raises(CfsError, match="found 1 by other keys, or over other bytes"):
        resolve(site, trust=TRUST)
    site.on(f"/{name}", respond(sign_detached(KEY, INDEX)))
    assert resolve(site, trust=TRUST) == COMMIT
