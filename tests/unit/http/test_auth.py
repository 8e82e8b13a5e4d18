"""Challenges as servers write them."""

from __future__ import annotations

import pytest

from cfsctl.http.auth import Challenge, Credentials, parse_challenges

BEARER = 'Bearer realm="https://auth.example/token",service="a b",scope="repository:x:pull,push"'


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([], []),
        ([""], []),
        (["Basic"], [("basic", {})]),
        (['Basic realm="x"'], [("basic", {"realm": "x"})]),
        (['BASIC Realm = "x"'], [("basic", {"realm": "x"})]),
        (["Basic realm=x"], [("basic", {"realm": "x"})]),
        (
            [BEARER],
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "a b",
                        "scope": "repository:x:pull,push",
                    },
                )
            ],
        ),
        (['Basic realm="a", Bearer realm="b"'], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        (['Basic realm="a"', 'Bearer realm="b"'], [("basic", {"realm": "a"}), ("bearer", {"realm": "b"})]),
        (["Negotiate, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        (["Negotiate YWJj=, Basic realm=x"], [("negotiate", {}), ("basic", {"realm": "x"})]),
        ([r'Basic realm="a\"b\\"'], [("basic", {"realm": 'a"b\\'})]),
        (["Basic realm=a, realm=b"], [("basic", {"realm": "a"})]),
        (['Basic realm="never closed'], [("basic", {})]),
        (['="'], []),
    ],
)
def test_parse_challenges(fields: list[str], expected: list[tuple[str, dict[str, str]]]) -> None:
    assert [tuple(found) for found in parse_challenges(fields)] == expected


def test_a_field_full_of_repetitions_takes_no_long_time() -> None:
    for text in ('a="' + "\\" * 100_000, "a " * 100_000, "a=" * 100_000, "," * 100_000):
        assert len(parse_challenges([text])) < 20_000


def test_basic() -> None:
    assert Credentials("Aladdin", "open sesame").to_basic() == "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
    assert parse_challenges(["basic"]) == [Challenge("basic", {})]
