"""Whatever the bytes: the documented error or a value that encodes to them."""

from __future__ import annotations

from random import Random  # noqa: TC003 - hypothesis reads the annotation

from hypothesis import example, given, settings
from hypothesis import strategies as st

from cfsctl.gvariant import GVariantError, decode, encode, parse_type
from tests.support.gvariants import damaged, random_type, random_value

_TYPES = st.one_of(
    st.sampled_from(
        [
            "(a(say)a(sayay))",
            "(uuua(ayay))",
            "(a{sv}aya(say)sstayay)",
            "(a(s(taya{sv}))a{sv})",
            "av",
            "a(uuu)",
        ]
    ),
    st.randoms(use_true_random=False).map(random_type),
)


@settings(max_examples=400)
@given(random=st.randoms(use_true_random=False))
def test_round_trip(random: Random) -> None:
    kind = random_type(random)
    value = random_value(random, parse_type(kind))
    data = encode(kind, value)
    assert decode(kind, data) == value


@settings(max_examples=500)
@given(kind=_TYPES, data=st.binary(max_size=80))
@example(kind="v", data=b"\0v" * 200)
@example(kind="(ss)", data=b"")
@example(kind="as", data=b"\1")
def test_any_bytes(kind: str, data: bytes) -> None:
    _check(kind, data)


@settings(max_examples=500)
@given(kind=_TYPES, random=st.randoms(use_true_random=False))
def test_damaged_values(kind: str, random: Random) -> None:
    _check(kind, damaged(random, encode(kind, random_value(random, parse_type(kind)))))


@settings(max_examples=300)
@given(text=st.text("aamm((){}{sy*v", max_size=20))
def test_any_type_string(text: str) -> None:
    try:
        parsed = parse_type(text)
    except GVariantError:
        return
    assert parsed.signature == text
    _check(text, b"")


def _check(kind: str, data: bytes) -> None:
    try:
        value = decode(kind, data)
    except GVariantError:
        return
    assert encode(kind, value) == data
