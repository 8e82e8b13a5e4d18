"""bsdiff patches."""

from __future__ import annotations

import random
import struct

import pytest

from cfsctl.ostree.delta.format import DeltaError
from cfsctl.ostree.delta.patch import add_bytes, apply_patch
from cfsctl.ostree.delta.views import ByteView


def number(value: int) -> bytes:
    return struct.pack("<Q", value if value >= 0 else (1 << 63) - value)


def block(difference: bytes, literal: bytes = b"", seek: int = 0) -> bytes:
    return number(len(difference)) + number(len(literal)) + number(seek) + difference + literal


def patched(patch: bytes, old: bytes, size: int) -> bytes:
    pieces: list[bytes] = []
    apply_patch(ByteView.of_bytes(patch), ByteView.of_bytes(old), size, pieces.append)
    return b"".join(pieces)


def test_bytes_are_added_one_by_one_without_carry() -> None:
    chance = random.Random(1)
    for size in (0, 1, 2, 4095, 4096, 4097, 70000):
        one, other = chance.randbytes(size), chance.randbytes(size)
        assert add_bytes(one, other) == bytes((a + b) & 0xFF for a, b in zip(one, other, strict=True))


@pytest.mark.parametrize(
    ("patch", "old", "new"),
    [
        (b"", b"old", b""),
        (block(b"\0\0\0", b"!"), b"old", b"old!"),
        (block(b"\1\0\377"), b"abc", b"bbb"),
        (block(b"\0\0", b"-", -2) + block(b"\0\0\0"), b"abc", b"ab-abc"),
        (block(b"", b"", 1) + block(b"\0"), b"abc", b"b"),
        (block(b"aaaa"), b"\1\1", b"bbaa"),
        (block(b"", b"", -2) + block(b"aaaa"), b"\1\1", b"aabb"),
        (block(b"", b"", 1 << 62) + block(b"aa"), b"\1\1", b"aa"),
        (block(b"") * 1000 + block(b"\0"), b"x", b"x"),
    ],
    ids=["empty", "copy", "add", "back", "forward", "past-end", "before-start", "far", "idle"],
)
def test_patch(patch: bytes, old: bytes, new: bytes) -> None:
    assert patched(patch, old, len(new)) == new


def test_large_files_are_patched_in_steps() -> None:
    chance = random.Random(2)
    old, difference = chance.randbytes(300_000), chance.randbytes(300_000)
    new = bytes((a + b) & 0xFF for a, b in zip(old, difference, strict=True))
    assert patched(block(difference, b"end"), old, 300_003) == new + b"end"


def test_many_short_pieces_from_anywhere() -> None:
    """Pieces are read ahead and joined, which must not show."""
    chance = random.Random(3)
    old = chance.randbytes(100_000)
    patch, new, place = b"", b"", 0
    for _ in range(2000):
        size, literal = chance.randrange(300), chance.randbytes(chance.randrange(3) * 40)
        before = bytes(old[at] if 0 <= at < len(old) else 0 for at in range(place, place + size))
        difference = chance.randbytes(size) if chance.random() < 0.3 else bytes(size)
        goal = chance.choice([place + size, place + size, chance.randrange(-500, len(old) + 500)])
        patch += block(difference, literal, goal - place - size)
        new += bytes((a + b) & 0xFF for a, b in zip(before, difference, strict=True)) + literal
        place = goal
    assert patched(patch, old, len(new)) == new


@pytest.mark.parametrize(
    ("patch", "size", "text"),
    [
        (b"", 1, "found the end of the patch after 0"),
        (block(b"\0\0"), 1, "expected at most 1 more bytes, found 2 and 0"),
        (block(b"\0"), 2, "found the end of the patch after 1"),
        (block(b"\0") + b"x", 1, "found 1 bytes more"),
        (number(-1) + number(0) + number(0), 5, "found -1 and 0"),
        (number(0) + number(-1) + number(0), 5, "found 0 and -1"),
        (number(4) + number(0) + number(0) + b"xx", 4, "4 bytes at 24"),
        (block(b"")[:20], 4, "found the end of the patch after 0"),
    ],
)
def test_a_broken_patch_is_refused(patch: bytes, size: int, text: str) -> None:
    with pytest.raises(DeltaError, match=text):
        patched(patch, b"old", size)
