"""Signatures that libostree made, see tests/vectors/ostree/signatures."""

from __future__ import annotations

from pathlib import Path

import pytest

from cfsctl.ostree.trust.keys import SignKey, parse_key_file
from cfsctl.ostree.trust.policy import Requirement, TrustPolicy, verify
from cfsctl.ostree.trust.verdict import SignatureError

VECTORS = Path(__file__).parents[3] / "vectors" / "ostree" / "signatures"
NAMES = sorted(path.stem for path in VECTORS.glob("*.key"))
SIGNED = [(name, f"{name}.commit", f"{name}.commitmeta") for name in NAMES]
SIGNED.append(("ed25519", "ed25519.summary", "ed25519.summary.sig"))


def read_key(name: str) -> SignKey:
    (key,) = parse_key_file(name.partition("-")[0], (VECTORS / f"{name}.key").read_bytes(), name)
    return key


def check(name: str, data: bytes, signatures: bytes, keys: list[SignKey]) -> list[str]:
    demand = Requirement(engines=(name.partition("-")[0],))
    policy = TrustPolicy(commits=demand, keys=keys)
    return [verified.engine for verified in verify("it", data, signatures, policy, demand)]


def test_they_are_there() -> None:
    assert NAMES == ["ed25519", "spki-ed448", "spki-p256", "spki-rsa3072"]


@pytest.mark.parametrize(("name", "data", "signatures"), SIGNED, ids=[data for _, data, _ in SIGNED])
def test_by_the_right_key_over_the_same_bytes(name: str, data: str, signatures: str) -> None:
    content, found = (VECTORS / data).read_bytes(), (VECTORS / signatures).read_bytes()
    assert check(name, content, found, [read_key(name)]) == [name.partition("-")[0]]
    others = [read_key(other) for other in NAMES if other != name]
    for wrong, keys in ((content[:-1] + bytes([content[-1] ^ 1]), [read_key(name)]), (content, others)):
        with pytest.raises(SignatureError, match="expected a valid"):
            check(name, wrong, found, keys)
