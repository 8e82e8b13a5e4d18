"""URLs of directories."""

from __future__ import annotations

import pytest

from cfsctl.http.mirrors import parse_file_url
from cfsctl.http.urls import InvalidURLError


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("file:///srv/repo", "/srv/repo"),
        ("file://localhost/srv/repo", "/srv/repo"),
        ("file:/srv/repo", "/srv/repo"),
        ("FILE:///a%20b/%c3%a4%FF", "/a b/ä\udcff"),
        ("http://x/file:///", None),
        ("files:///x", None),
        ("/srv/repo", None),
    ],
)
def test_directory(url: str, path: str | None) -> None:
    assert parse_file_url(url) == path


@pytest.mark.parametrize(
    "url", ["file://host/srv", "file:srv", "file:", "file://", "file:///a?b", "file:///a#b", "file:///a%00b"]
)
def test_no_directory(url: str) -> None:
    with pytest.raises(InvalidURLError, match="expected file:///PATH"):
        parse_file_url(url)
