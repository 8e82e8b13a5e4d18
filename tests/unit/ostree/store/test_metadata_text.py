"""Metadata of a commit as `inspect --metadata` prints it."""

from __future__ import annotations

import pytest

from cfsctl.gvariant import Just, Value, Variant
from cfsctl.ostree.store.metadata_text import iter_metadata_lines, render_value


@pytest.mark.parametrize(
    ("kind", "value", "text"),
    [
        ("s", "1.2\n", "1.2\n"),
        ("s", "", ""),
        ("b", True, "true"),
        ("b", False, "false"),
        ("u", 0x01000000, "16777216"),
        ("t", 1 << 63, "9223372036854775808"),
        ("as", [], "[]"),
        ("as", ["a"], "[a]"),
        ("as", ["a", "b, c"], "[a, b, c]"),
        ("ay", b"", ""),
        ("ay", b"\x00\xff", "00ff"),
        ("i", -1, "<i:ffffffff>"),
        ("y", 7, "<y:07>"),
        ("o", "/a", "<o:2f6100>"),
        ("ms", Just("x"), "<ms:780000>"),
        ("aay", [b"", b"x"], "<aay:780001>"),
        ("v", Variant("s", "x"), "<v:78000073>"),
        ("a{sv}", [("k", Variant("u", 1))], "<a{sv}:6b00000000000000010000000075020f>"),
    ],
)
def test_values(kind: str, value: Value, text: str) -> None:
    assert render_value(Variant(kind, value)) == text


def test_lines_keep_the_stored_order() -> None:
    metadata = [("z", Variant("s", "1")), ("a", Variant("as", ["x"])), ("z", Variant("u", 2))]
    assert list(iter_metadata_lines(metadata)) == ["z=1", "a=[x]", "z=2"]
