"""What names and numbers look like on a page."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.pages import figures


@given(st.binary(max_size=2000))
def test_names_can_be_seen(value: bytes) -> None:
    text = figures.name(value)
    assert text.isprintable()
    assert len(text) <= 403
    text.encode()


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (b"a\xffb", r"a\xffb"),
        ("a\u202eb", r"a\u202eb"),
        ("a\u2066b", r"a\u2066b"),
        ("a\nb", r"a\nb"),
        ("a\x1b[31m", r"a\x1b[31m"),
        ("\u200bx", r"\u200bx"),
        ("שלום", "שלום"),
        ("<b>&amp;", "<b>&amp;"),
    ],
)
def test_names(value: bytes | str, shown: str) -> None:
    assert figures.name(value) == shown


def test_long_names_keep_both_ends() -> None:
    text = figures.name("a" * 300 + "b" * 300)
    assert (text[0], text[-1], "\u2026" in text) == ("a", "b", True)


def test_numbers() -> None:
    assert figures.share(0, 0) == "0 %"
    assert figures.share(1, 10**6) == "<0.1 %"
    assert figures.share(999_999, 10**6) == "100 %"
    assert figures.signed_size(-2048) == "\u22122.00 KiB"
    assert figures.signed_size(0) == "0 B"
    assert figures.exact(1) == "1 byte"
    assert figures.exact(12345) == "12,345 bytes"


@pytest.mark.parametrize("seconds", [-(2**62), 2**62, 1e30, float("inf")])
def test_times_that_no_calendar_has(seconds: float) -> None:
    if seconds != float("inf"):
        assert figures.day(seconds) == str(int(seconds))
    assert figures.moment(seconds) == ""


def test_times() -> None:
    assert figures.day(0) == "1970-01-01 00:00"
    assert figures.moment(0) == "1970-01-01T00:00:00Z"
