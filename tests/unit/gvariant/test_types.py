"""Type strings: what is one, and what follows from it."""

from __future__ import annotations

import pytest

from cfsctl.gvariant import MAX_DEPTH, GVariantError, parse_type
from cfsctl.gvariant.types import MAX_TYPE_SIZE, check_signature


@pytest.mark.parametrize(
    ("text", "alignment", "fixed_size", "depth"),
    [
        ("y", 1, 1, 1),
        ("b", 1, 1, 1),
        ("n", 2, 2, 1),
        ("h", 4, 4, 1),
        ("d", 8, 8, 1),
        ("s", 1, None, 1),
        ("v", 8, None, 1),
        ("ay", 1, None, 2),
        ("at", 8, None, 2),
        ("mu", 4, None, 2),
        ("()", 1, 1, 1),
        ("(yu)", 4, 8, 2),
        ("(uy)", 4, 8, 2),
        ("(y(ny)t)", 8, 16, 3),
        ("(sn)", 2, None, 2),
        ("{yt}", 8, 16, 2),
        ("a{sv}", 8, None, 3),
        ("(a(say)a(sayay))", 1, None, 5),
        ("(a{sv}aya(say)sstayay)", 8, None, 5),
    ],
)
def test_properties(text: str, alignment: int, fixed_size: int | None, depth: int) -> None:
    parsed = parse_type(text)
    assert parsed.signature == text
    assert (parsed.alignment, parsed.fixed_size, parsed.depth) == (alignment, fixed_size, depth)


@pytest.mark.parametrize(
    ("text", "offset"),
    [
        ("", 0),
        ("a", 1),
        ("m", 1),
        ("ss", 1),
        ("(", 1),
        (")", 0),
        ("(s", 2),
        ("()}", 2),
        ("{ss", 3),
        ("{sss}", 3),
        ("{vs}", 1),
        ("{ays}", 1),
        ("{}", 1),
        ("z", 0),
        ("a*", 1),
        ("r", 0),
        ("?", 0),
        ("é", 0),
        ("(y\0)", 2),
    ],
)
def test_refused(text: str, offset: int) -> None:
    with pytest.raises(GVariantError) as caught:
        parse_type(text)
    assert caught.value.offset == offset


@pytest.mark.parametrize("text", ["*", "?", "r", "a*", "(s*)", "{?*}", "mr"])
def test_patterns_only_on_request(text: str) -> None:
    assert parse_type(text, definite=False).signature == text


def test_short_types_are_shared() -> None:
    assert parse_type("a{sv}") is parse_type("a{sv}")


@pytest.mark.parametrize("wrap", ["a{}", "m{}", "({})"])
def test_depth_is_bounded(wrap: str) -> None:
    text = "y"
    for _ in range(MAX_DEPTH):
        text = wrap.format(text)
    assert parse_type(text).depth == MAX_DEPTH + 1
    with pytest.raises(GVariantError, match="at most 128 levels"):
        parse_type(wrap.format(text))


def test_length_is_bounded() -> None:
    assert parse_type(f"({'y' * (MAX_TYPE_SIZE - 2)})").fixed_size == MAX_TYPE_SIZE - 2
    with pytest.raises(GVariantError, match="at most 65536 characters"):
        parse_type(f"({'y' * (MAX_TYPE_SIZE - 1)})")


@pytest.mark.parametrize("text", ["", "s", "ssi", "a{sv}(ii)"])
def test_signatures(text: str) -> None:
    check_signature(text)


@pytest.mark.parametrize("text", ["a", "s*", "{sv", "s" * (MAX_TYPE_SIZE + 1)])
def test_signatures_refused(text: str) -> None:
    with pytest.raises(GVariantError):
        check_signature(text)
