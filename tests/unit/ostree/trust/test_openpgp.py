"""Packets, armour and merged keyrings."""

from __future__ import annotations

import base64
import itertools

import pytest

from cfsctl.ostree.trust.gpg import MAX_TRIED, find_valid, merge_keyrings
from cfsctl.ostree.trust.openpgp import (
    Keyring,
    OpenPGPError,
    Packet,
    find_key_id,
    format_packet,
    iter_packets,
    list_key_ids,
    split_signatures,
)
from cfsctl.ostree.trust.verdict import Deadline, UnusableKeyError

KEY, OTHER = Packet(6, b"\4key"), Packet(6, b"\4other")
USER, SUBKEY = Packet(13, b"A <a@x>"), Packet(14, b"\4subkey")
TRUST = Packet(12, b"\0\0")


def signature(text: bytes, kind: int = 0x13) -> Packet:
    return Packet(2, bytes((4, kind)) + text)


OLD = signature(b"expires soon")
NEW = signature(b"expires never")
BINDING = signature(b"binding", 0x18)
REVOCATION = signature(b"revoked" + (find_key_id(KEY.body) or b""), 0x20)


def join(*packets: Packet) -> bytes:
    return b"".join(map(format_packet, packets))


def armour(data: bytes, kind: bytes = b"PUBLIC KEY BLOCK", headers: bytes = b"Comment: x\n") -> bytes:
    body = base64.encodebytes(data)
    return b"-----BEGIN PGP %b-----\n%b\n%b=abcd\n-----END PGP %b-----\n" % (kind, headers, body, kind)


def merge(*files: bytes) -> list[Packet]:
    return list(iter_packets(merge_keyrings([(f"file {number}", data) for number, data in enumerate(files)])))


def test_sizes_in_both_formats() -> None:
    for size, text in ((5, b"\x88\5"), (300, b"\x89\1\x2c"), (70000, b"\x8a\0\1\x11\x70")):
        assert list(iter_packets(text + bytes(size))) == [Packet(2, bytes(size))]
    for size, text in ((191, b"\xc2\xbf"), (192, b"\xc2\xc0\0"), (8383, b"\xc2\xdf\xff")):
        assert list(iter_packets(text + bytes(size))) == [Packet(2, bytes(size))]


@pytest.mark.parametrize(
    "data",
    [
        b"x",
        b"\x88",
        b"\x88\2a",
        b"\x8ba",
        b"\xc2",
        b"\xc2\xe0" + bytes(99),
        b"\xc2\xff\0\0",
        b"\xc2\xff\xff\xff\xff\xff",
    ],
)
def test_what_is_not_a_packet(data: bytes) -> None:
    with pytest.raises(OpenPGPError, match="expected "):
        list(iter_packets(data))


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_a_key_has_what_any_copy_says(order: tuple[int, ...]) -> None:
    copies = [
        join(KEY, TRUST, USER, OLD, TRUST),
        armour(join(KEY, USER, NEW, SUBKEY, BINDING)),
        join(OTHER, USER, OLD, KEY, REVOCATION, USER, OLD),
    ]
    merged = merge(*(copies[number] for number in order))
    start = merged.index(KEY)
    end = merged.index(OTHER) if merged.index(OTHER) > start else len(merged)
    mine = merged[start:end]
    assert mine[:3] == [KEY, REVOCATION, USER]
    assert set(mine[3:5]) == {OLD, NEW}
    assert mine[5:] == [SUBKEY, BINDING]
    assert REVOCATION not in merged[merged.index(OTHER) :][:2]


@pytest.mark.parametrize("place", ["before", "after", "within", "file", "armoured", "other"])
def test_a_certificate_revokes_its_key_wherever_it_stands(place: str) -> None:
    key, revocation = join(KEY, USER, OLD, SUBKEY, BINDING), join(REVOCATION)
    other = join(OTHER, USER, OLD)
    files = {
        "before": [revocation + key],
        "after": [key + revocation],
        "within": [join(KEY, USER, OLD, REVOCATION, SUBKEY, BINDING)],
        "file": [revocation, other, key],
        "armoured": [armour(other), armour(key) + b"\nwords\n" + armour(revocation)],
        "other": [key + other + revocation],
    }[place]
    merged = merge(*files)
    assert merged[merged.index(KEY) + 1] == REVOCATION


def test_text_and_armour_and_packets_in_one_file() -> None:
    key, other = join(KEY, USER), join(OTHER, USER)
    for data in (
        key + armour(other),
        armour(key) + other,
        b"words\n" + armour(key) + b"\n# words\n\n" + armour(other, headers=b""),
        b"\xef\xbb\xbf" + armour(key).replace(b"\n", b"\r\n") + armour(other),
        armour(key) + armour(b"x", b"MESSAGE") + armour(other),
    ):
        assert merge(data) == [KEY, USER, OTHER, USER]


def test_a_guarded_certificate_is_not_one() -> None:
    merged = merge(join(KEY, USER), b":" + armour(join(REVOCATION)) + armour(join(OTHER)))
    assert REVOCATION not in merged


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"", "found none"),
        (b"words", "found none"),
        (armour(join(OLD), b"SIGNATURE"), "found none"),
        (join(OLD), "found none"),
        (join(Packet(5, b"\4secret")), "secret ones"),
        (armour(join(KEY), b"PRIVATE KEY BLOCK"), "secret ones"),
        (join(KEY, Packet(8, b"compressed")), "a packet of type 8"),
        (join(KEY) + b"junk", "something else"),
        (join(KEY)[:-1], "expected a packet of 4 bytes"),
        (armour(join(KEY))[:-40], "cut off"),
        (armour(join(KEY)).replace(b"=abcd", b"!"), "expected an armoured block"),
        (armour(b"words"), "something else"),
    ],
)
def test_what_is_not_a_keyring(data: bytes, text: str) -> None:
    with pytest.raises(UnusableKeyError, match=f"file 0: .*({text})"):
        merge(data)


def test_key_ids() -> None:
    keyring = join(KEY, USER, SUBKEY, Packet(6, b"\3old"), Packet(6, b"\6new"))
    assert len(list_key_ids(keyring)) == 3
    assert all(len(key_id) == 8 for key_id in list_key_ids(keyring))


def test_only_signatures_are_signatures() -> None:
    assert split_signatures(join(OLD, NEW)) == [join(OLD), join(NEW)]
    assert split_signatures(armour(join(OLD), b"SIGNATURE")) == [join(OLD)]
    for tag in set(range(64)) - {2}:
        with pytest.raises(OpenPGPError, match=f"a packet of type {tag}"):
            split_signatures(join(OLD, Packet(tag, b"x")))


def test_what_names_no_key_costs_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    blobs = [join(OLD), b"junk", b"", join(Packet(8, b"x")), join(OLD) * 3]
    reasons = find_valid(blobs, b"data", join(KEY), Deadline())
    assert isinstance(reasons, list)
    assert reasons == [
        "signature 1 is by a key that is not in the keyring, or cannot be read, and 3 more like it",
        "signature 2 is not a signature, and 2 more like it",
    ]


@pytest.fixture
def tried(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Signatures that are shown to `gpgv`, which finds none of them good."""
    found: list[bytes] = []

    def check(_verifier: object, signature: bytes, _deadline: Deadline) -> str:
        found.append(signature)
        return "is bad"

    monkeypatch.setattr("cfsctl.ostree.trust.gpg._Verifier.check", check)
    return found


def test_few_signatures_are_tried(tried: list[bytes]) -> None:
    mine = join(signature(find_key_id(KEY.body) or b""))
    reasons = find_valid([mine * 100] * 64, b"data", join(KEY), Deadline())
    assert tried == [mine] * MAX_TRIED
    assert reasons == [
        f"signature 1 is bad, and {MAX_TRIED - 1} more like it",
        f"signature 1 comes after the {MAX_TRIED} that are tried, and {6400 - MAX_TRIED - 1} more like it",
    ]


def test_all_signatures_have_one_deadline(tried: list[bytes]) -> None:
    mine = join(signature(find_key_id(KEY.body) or b""))
    reasons = find_valid([mine] * MAX_TRIED, b"data", join(KEY), Deadline(0))
    assert len(tried) == 1
    assert reasons == ["signature 1 is bad"]


def test_an_empty_keyring_has_no_keys() -> None:
    assert not len(Keyring())
    assert Keyring().to_bytes() == b""
