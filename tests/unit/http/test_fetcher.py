"""URLs, errors and settings, without a socket."""

from __future__ import annotations

import pytest

from cfsctl.errors import ExitCode
from cfsctl.http.authorities import find_ca_file
from cfsctl.http.errors import HTTPStatusError, TransferError
from cfsctl.http.fetcher import Options
from cfsctl.http.urls import InvalidURLError, check_url, origin_of, redact_url, split_credentials


@pytest.mark.parametrize(
    "url",
    ["http://host", "https://host:8443/a/b?c=d", "HTTP://user:pw@host/", "http://[::1]:80/x", "http://h/%20"],
)
def test_urls_we_can_fetch_from(url: str) -> None:
    assert check_url(url).scheme in {"http", "https"}


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("", "begins with http"),
        ("mailto:x", "begins with http"),
        ("file:///srv/repo", "begins with http"),
        ("/srv/repo", "begins with http"),
        ("ftp://host/", "begins with http"),
        ("http://", "no host"),
        ("http:///path", "no host"),
        ("http://host:99999/", "Port"),
        ("http://host:x/", "Port"),
        ("http://[::1/", "IPv6"),
        ("http://host/a b", "spaces"),
        ("http://host/\r\nX: y", "control"),
        ("http://host/\x7f", "control"),
    ],
)
def test_what_is_no_url_for_us(url: str, reason: str) -> None:
    with pytest.raises(InvalidURLError, match=reason) as caught:
        check_url(url)
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_local_path_gets_a_hint() -> None:
    with pytest.raises(InvalidURLError) as caught:
        check_url("/srv/repo")
    assert caught.value.hint is not None
    assert "pull-local" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "redacted"),
    [
        ("http://host/a@b", "http://host/a@b"),
        ("http://user@host/x", "http://host/x"),
        ("http://user:p@ss@host:80/x", "http://host:80/x"),
        ("https://user:pw@host", "https://host"),
        ("https://host/x?token=secret", "https://host/x?..."),
        ("https://user:pw@host/x?a=b#c", "https://host/x?..."),
        ("https://host/x?", "https://host/x?"),
    ],
)
def test_redaction(url: str, redacted: str) -> None:
    assert redact_url(url) == redacted


def test_credentials_are_split_off() -> None:
    assert split_credentials("http://u:p%40@h:81/x?y") == ("http://h:81/x?y", "u", "p%40")
    assert split_credentials("http://u@h/x") == ("http://h/x", "u", "")
    assert split_credentials("http://h/a@b") == ("http://h/a@b", None, None)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://Host/x", ("http", "host", 80)),
        ("https://host", ("https", "host", 443)),
        ("https://u:p@host:8443/", ("https", "host", 8443)),
    ],
)
def test_origins(url: str, origin: tuple[str, str, int]) -> None:
    assert origin_of(url) == origin


def test_an_error_names_the_thing_and_the_url() -> None:
    error = HTTPStatusError("http://user:pw@host/x", 503, 7.0).about("summary")
    assert str(error) == "summary: http://host/x: the server answered with HTTP status 503"
    assert error.is_transient
    assert isinstance(error, TransferError)
    assert error.exit_code is ExitCode.NETWORK
    assert not HTTPStatusError("http://host/x", 404).is_transient


def test_the_chosen_authorities_are_used() -> None:
    assert find_ca_file(Options(ca_file="/my/ca.pem")) == "/my/ca.pem"
    assert find_ca_file(Options()) != ""
