"""Summaries: what a real one says, and what is no summary."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cfsctl import gvariant
from cfsctl.ostree.summary.format import SummaryError, find_values, format_summary, parse_summary

if TYPE_CHECKING:
    from random import Random

VECTORS = Path(__file__).parents[3] / "vectors" / "ostree" / "summary"
TYPE = "(a(s(taya{sv}))a{sv})"


def test_a_real_summary() -> None:
    data = (VECTORS / "three-refs.summary").read_bytes()
    summary = parse_summary(data)
    assert {name: (ref.checksum.hex(), ref.commit_size) for name, ref in summary.refs.items()} == {
        "app/a": ("15eb689cf2d58a3585983565103d3846b67ba22114730a9ead0697e1a85d456d", 142),
        "main": ("8f89bfbae12df8c182649127762dc7ec9b7215307ddaa9f43ea2b262e7493cc3", 142),
        "zz": ("9102cf72b1bf582236841b249dc6a7b5600f734bb83dacbb411ac688c3671011", 134),
    }
    assert dict(summary.refs["zz"].metadata)["ostree.commit.version"].value == "1.zz"
    assert dict(summary.metadata)["ostree.summary.mode"].value == "archive-z2"
    assert format_summary(summary) == data


def make(*refs: tuple[str, bytes]) -> bytes:
    return gvariant.encode(TYPE, ([(name, (100, checksum, [])) for name, checksum in refs], []))


def test_the_order_is_kept_whatever_it_is() -> None:
    summary = parse_summary(make(("b", bytes(32)), ("a", b"\xff" * 32)))
    assert list(summary.refs) == ["b", "a"]


def test_a_summary_of_nothing() -> None:
    assert not parse_summary(make()).refs


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (make(("x", bytes(32)), ("y", bytes(32)), ("x", b"\xff" * 32)), "ref 'x': expected once"),
        (make(("x", bytes(32)), ("x", bytes(32))), "ref 'x': expected once"),
        (make(("x", bytes(31))), "ref 'x': expected a checksum of 32 bytes, found 31"),
        (make(("x", b"")), "found 0"),
        (make(("", bytes(32))), "name of a ref"),
        (make(("n" * 4097, bytes(32))), "name of a ref, 'n{40}[.]{3}': expected at most 4096 bytes"),
        (b"<!DOCTYPE html><html><body>Log in</body></html>\n", "expected"),
        (make(("x", bytes(32)))[:-1], "expected"),
        (bytes(4096), "expected"),
    ],
    ids=["twice", "twice-the-same", "31", "0", "no-name", "long-name", "html", "cut", "zeros"],
)
def test_what_is_no_summary(data: bytes, message: str) -> None:
    with pytest.raises(SummaryError, match=message):
        parse_summary(data)


def test_size_and_number_of_values_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    data = make(*((str(number), bytes(32)) for number in range(100)))
    monkeypatch.setattr("cfsctl.ostree.summary.format.MAX_SUMMARY_VALUES", 99)
    with pytest.raises(SummaryError):
        parse_summary(data)
    monkeypatch.setattr("cfsctl.ostree.summary.format.MAX_SUMMARY_SIZE", len(data) - 1)
    with pytest.raises(SummaryError, match="bytes"):
        parse_summary(data)


def test_values_of_a_key() -> None:
    pairs: list[gvariant.Value] = [("a", gvariant.Variant("s", "1")), ("aa", gvariant.Variant("u", 2))]
    data = gvariant.encode(TYPE, ([("x", (1, bytes(32), pairs))], [*pairs, ("a", gvariant.Variant("t", 3))]))
    summary = parse_summary(data)
    assert [value.value for value in find_values(summary.metadata, "a")] == ["1", 3]
    assert find_values(summary.metadata, "b") == []
    assert find_values([("a", gvariant.Variant("s", "1"))], "a") == [gvariant.Variant("s", "1")]
    assert len(summary.metadata) == 3
    assert summary.metadata[-1][0] == "a"
    assert list(summary.refs["x"].metadata) == pairs
    assert "y" not in summary.refs
    assert "\udcff" not in summary.refs


@settings(max_examples=200)
@given(random=st.randoms(use_true_random=False))
def test_damaged_summaries_are_refused_as_by_the_codec(random: Random) -> None:
    data = bytearray((VECTORS / "three-refs.summary").read_bytes())
    for _ in range(random.randint(1, 3)):
        data[random.randrange(len(data))] = random.randrange(256)
    changed = bytes(data)
    try:
        value = gvariant.decode(TYPE, changed)
    except gvariant.GVariantError:
        with pytest.raises(SummaryError):
            parse_summary(changed)
        return
    try:
        summary = parse_summary(changed)
    except SummaryError as error:
        assert error.field == "refs", error  # noqa: PT017 - well-formed, but no summary
        return
    assert format_summary(summary) == changed == gvariant.encode(TYPE, value)
