"""Answers by which another version can be told apart, and those by which it cannot."""

from __future__ import annotations

import pytest

from cfsctl.http.fetcher import Response
from cfsctl.http.freshness import can_be_told_apart

OLD, LATER, FUTURE = (
    "Mon, 01 Jan 2024 00:00:00 GMT",
    "Mon, 01 Jan 2024 00:00:02 GMT",
    "Wed, 01 Jan 2070 00:00:00 GMT",
)
AFTER_FUTURE = "Thu, 01 Jan 2071 00:00:00 GMT"
MD5 = '"d41d8cd98f00b204e9800998ecf8427e"'


@pytest.mark.parametrize(
    ("etag", "modified", "date", "is_right"),
    [
        (MD5, None, None, True),
        (MD5, OLD, OLD, True),
        ("W/" + MD5, None, None, False),
        ('"version-one"', None, None, True),
        ('"version-one"', OLD, OLD, False),
        ('"659200c0-10a"', None, None, False),  # date and size, without a date beside it
        ('"659200c0-10a"', OLD, OLD, False),
        ("1704067200", None, None, False),
        ('"17a5b1c2d3e4f567-5f.1"', None, None, False),
        (None, OLD, LATER, True),
        (None, OLD, OLD, False),
        (None, OLD, None, False),
        (None, FUTURE, AFTER_FUTURE, False),  # set by somebody, so that all versions may have it
        (None, None, LATER, False),
    ],
)
def test_what_tells_versions_apart(
    etag: str | None, modified: str | None, date: str | None, *, is_right: bool
) -> None:
    assert can_be_told_apart(Response(200, b"", etag, modified, date), None) is is_right


def test_a_file_is_not_older_than_what_is_in_it() -> None:
    assert can_be_told_apart(Response(200, b"", None, OLD, LATER), 1_704_067_200)
    assert not can_be_told_apart(Response(200, b"", None, OLD, LATER), 1_704_067_300)
