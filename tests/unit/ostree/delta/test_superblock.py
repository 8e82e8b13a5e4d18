"""Superblocks: byte orders, inline parts, wrappers, and what is refused."""

from __future__ import annotations

import hashlib

import pytest

from cfsctl import gvariant
from cfsctl.digest import Checksum
from cfsctl.errors import DigestMismatchError
from cfsctl.gvariant import Variant
from cfsctl.ostree.delta.format import (
    DeltaError,
    delta_directory,
    encode_id,
    index_path,
    parse_delta_name,
)
from cfsctl.ostree.delta.superblock import parse_superblock, unwrap
from cfsctl.ostree.delta.views import ByteView
from cfsctl.ostree.objects import Commit, ObjectKind, format_commit
from tests.support.superblocks import COMMIT, FROM, TO, make_superblock

FILE = Checksum(b"f" * 32)


def parse(data: bytes) -> object:
    return parse_superblock(ByteView.of_bytes(data))


def test_names() -> None:
    start = Checksum(bytes.fromhex("f8b962aa0854dd11d57c0e27ee5101c9e7f7723877362d6562ab7c6b97f27e0a"))
    assert encode_id(start) == "+LliqghU3RHVfA4n7lEByef3cjh3Ni1lYqt8a5fyfgo"
    assert delta_directory(None, start) == "deltas/+L/liqghU3RHVfA4n7lEByef3cjh3Ni1lYqt8a5fyfgo"
    assert delta_directory(start, start).startswith("deltas/+L/liqghU3RHVfA4n7lEByef3cjh3Ni1lYqt8a5fyfgo-+L")
    assert index_path(start) == "delta-indexes/+L/liqghU3RHVfA4n7lEByef3cjh3Ni1lYqt8a5fyfgo.index"
    assert parse_delta_name("ab" * 32) == (None, b"\xab" * 32)
    assert parse_delta_name(f"{'01' * 32}-{'ab' * 32}") == (b"\1" * 32, b"\xab" * 32)
    for text in ("", "ab", "AB" * 32, f"{'01' * 32}-", f"{'ab' * 32}\n", f"-{'ab' * 32}"):
        assert parse_delta_name(text) is None


@pytest.mark.parametrize("order", ["little", "big"])
@pytest.mark.parametrize("is_said", [True, False])
def test_sizes_in_either_byte_order(order: str, *, is_said: bool) -> None:
    endianness = {"little": "l", "big": "B"}[order] if is_said else None
    data = make_superblock(
        endianness=endianness,
        order=order,
        parts=[(b"c" * 32, 181, 74, [(1, FILE)])],
        fallbacks=[(1, b"g" * 32, 5_000_000, 9_000_000)],
    )
    superblock = parse_superblock(ByteView.of_bytes(data))
    assert superblock.parts[0] == (b"c" * 32, 181, 74, ((ObjectKind.FILE, FILE),))
    assert superblock.fallbacks[0] == (b"g" * 32, 5_000_000, 9_000_000)
    assert superblock.from_checksum == FROM
    assert superblock.to_checksum == TO
    assert superblock.commit_data == COMMIT


def test_inline_parts_are_found_where_they_are() -> None:
    key = delta_directory(FROM, TO)
    data = make_superblock(
        metadata=[
            ("a.key", Variant("s", "of the user")),
            (f"{key}/1", Variant("(yay)", (0, b"second"))),
            (f"{key}/0", Variant("(yay)", (120, b""))),
            (f"{key}/commitmeta", Variant("a{sv}", [("k", Variant("s", "v"))])),
            (f"{key}/01", Variant("s", "no number of a part")),
        ],
        parts=[(b"c" * 32, 1, 1, []), (b"d" * 32, 7, 1, [])],
    )
    superblock = parse_superblock(ByteView.of_bytes(data))
    views = {number: view.read(0, view.size) for number, view in superblock.inline.items()}
    assert views == {0: b"x", 1: b"\0second"}
    assert superblock.commitmeta == gvariant.encode("a{sv}", [("k", Variant("s", "v"))])


def test_a_signed_delta_is_unwrapped() -> None:
    inner = make_superblock()
    magic = int.from_bytes(b"OSTSGNDT", "little")
    data = gvariant.encode("(taya{sv})", (magic, inner, [("ostree.sign.dummy", Variant("aay", [b"sig"]))]))
    signed = unwrap(ByteView.of_bytes(data))
    assert signed is not None
    assert signed.superblock.read(0, signed.superblock.size) == inner
    assert gvariant.decode("a{sv}", signed.signatures) == [("ostree.sign.dummy", Variant("aay", [b"sig"]))]
    assert parse_superblock(ByteView.of_bytes(data)).to_checksum == TO
    assert unwrap(ByteView.of_bytes(inner)) is None


REFUSED: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "found none"),
    "text": (b"<!DOCTYPE html><html></html>", "superblock: expected"),
    "from-31": (make_superblock(start=b"x" * 31), "from: expected 0 or 32 bytes, found 31"),
    "prerequisite": (make_superblock(first=bytes(64)), "deltas to apply first: expected none, found 64"),
    "endianness": (make_superblock(endianness="x"), "expected the byte 'l' or 'B'"),
    "version": (
        make_superblock(parts=[(b"c" * 32, 1, 1, [])], version=1),
        "part 0: expected version 0, found 1",
    ),
    "checksum": (
        make_superblock(parts=[(b"c", 1, 1, [])]),
        "part 0: expected a checksum of 32 bytes, found 1",
    ),
    "type-4": (make_superblock(parts=[(b"c" * 32, 1, 1, [(4, FILE)])]), "type 1, 2 or 3, found type 4"),
    "object-twice": (
        make_superblock(parts=[(b"c" * 32, 1, 1, [(1, FILE)]), (b"d" * 32, 1, 1, [(1, FILE)])]),
        "part 1: expected every object once",
    ),
    "fallback-metadata": (make_superblock(fallbacks=[(2, b"g" * 32, 1, 1)]), "expected content objects"),
    "fallback-short": (make_superblock(fallbacks=[(1, b"g", 1, 1)]), "expected a checksum of 32 bytes"),
    "inline-type": (
        make_superblock(
            metadata=[(f"{delta_directory(FROM, TO)}/0", Variant("ay", b"x"))], parts=[(b"c" * 32, 1, 1, [])]
        ),
        "inline part 0: expected a byte and an array of bytes",
    ),
    "inline-beyond": (
        make_superblock(metadata=[(f"{delta_directory(FROM, TO)}/0", Variant("(yay)", (0, b"x")))]),
        "inline part 0: expected each of 0 parts once",
    ),
    "inline-twice": (
        make_superblock(
            metadata=[(f"{delta_directory(FROM, TO)}/0", Variant("(yay)", (0, b"x")))] * 2,
            parts=[(b"c" * 32, 1, 1, [])],
        ),
        "inline part 0: expected each of 1 parts once",
    ),
    "wrapper-only": (b"OSTSGNDT", "signed delta: expected"),
    "wrapper-cut": (b"OSTSGNDT" + bytes(8), "signed delta: expected"),
}


@pytest.mark.parametrize("case", sorted(REFUSED))
def test_refused(case: str) -> None:
    data, text = REFUSED[case]
    with pytest.raises(DeltaError, match=text):
        parse(data)


def test_another_commit_is_refused() -> None:
    other = format_commit(Commit((), None, "other", "", 1, Checksum(b"t" * 32), Checksum(b"m" * 32)))
    with pytest.raises(DigestMismatchError, match=hashlib.sha256(other).hexdigest()):
        parse(make_superblock(commit=other))


def test_every_byte_counts() -> None:
    """No byte can be left out, and what is accepted with one changed still has the commit."""
    data = make_superblock(
        metadata=[(f"{delta_directory(FROM, TO)}/0", Variant("(yay)", (0, b"payload")))],
        parts=[(b"c" * 32, 8, 1, [(1, FILE)])],
    )
    for length in range(len(data)):
        with pytest.raises((DeltaError, DigestMismatchError)):
            parse(data[:length])
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x55
        try:
            superblock = parse_superblock(ByteView.of_bytes(bytes(changed)))
        except (DeltaError, DigestMismatchError):
            continue
        assert hashlib.sha256(superblock.commit_data).digest() == superblock.to_checksum
