"""What goes directly although there is a proxy."""

from __future__ import annotations

import pytest

from cfsctl.http.fetcher import Options
from cfsctl.http.proxies import check_proxy, choose_proxy, is_exempt
from cfsctl.http.urls import InvalidURLError

EXEMPT = [
    ("host.example", "host.example"),
    ("host.example", "example"),
    ("host.example", ".example"),
    ("host.example", "..example."),
    ("host.example", "HOST.Example"),
    ("HOST.EXAMPLE.", "host.example"),
    ("host.example", "other,\thost.example"),
    ("host.example", "other host.example"),
    ("host.example", "*"),
    ("host.example", "other, *"),
    ("host.example", "host.example:8080"),
    ("host.example", ".example:8080"),
    ("10.1.2.3", "10.1.2.3"),
    ("10.1.2.3", "10.0.0.0/8"),
    ("10.1.2.3", "10.255.0.1/8"),
    ("10.1.2.3", "0.0.0.0/0"),
    ("10.1.2.3", "10.1.2.3:8080"),
    ("10.1.2.3", "::ffff:10.1.2.3"),
    ("::1", "::1"),
    ("::1", "[::1]"),
    ("::1", "[::1]:8080"),
    ("::1", "0:0:0:0:0:0:0:1"),
    ("fd00::5", "fd00::/8"),
    ("fd00::5", "[fd00::]/8"),
    ("fe80::1%eth0", "fe80::/10"),
    ("::ffff:10.1.2.3", "10.0.0.0/8"),
]


@pytest.mark.parametrize(("host", "no_proxy"), EXEMPT)
def test_exempt(host: str, no_proxy: str) -> None:
    assert is_exempt(host, 8080, no_proxy)


NOT_EXEMPT = [
    ("host.example", ""),
    ("host.example", " ,, "),
    ("host.example", "."),
    ("host.example", "ost.example"),
    ("host.example", "a.host.example"),
    ("host.example", "host.example:80"),
    ("host.example", "host.example:http"),
    ("host.example", "*.example"),
    ("host.example", "10.0.0.0/8"),
    ("host.example", "0.0.0.0/0"),
    ("10.1.2.3", "11.0.0.0/8"),
    ("10.1.2.3", "2.3"),
    ("10.1.2.3", ".2.3"),
    ("10.1.2.3", "10.1.2"),
    ("10.1.2.3", "10.0.0.0/33"),
    ("10.1.2.3", "10.0.0.0/-1"),
    ("10.1.2.3", "10.0.0.0/x"),
    ("10.1.2.3", "/8"),
    ("10.1.2.3", "::/0"),
    ("::1", "::2"),
    ("::1", "[::1]:80"),
    ("::1", "0.0.0.0/0"),
    ("fd00::5", "fc00::/8"),
]


@pytest.mark.parametrize(("host", "no_proxy"), NOT_EXEMPT)
def test_not_exempt(host: str, no_proxy: str) -> None:
    assert not is_exempt(host, 8080, no_proxy)


def test_a_proxy_for_each_scheme() -> None:
    options = Options(proxies={"http": "http://one:1", "https": "two:2"}, no_proxy="direct")
    assert choose_proxy(options, "http://host/x") == "http://one:1"
    assert choose_proxy(options, "https://host/x") == "http://two:2"
    assert choose_proxy(options, "https://direct/x") is None
    assert choose_proxy(Options(), "https://host/x") is None


@pytest.mark.parametrize(
    "proxy", ["socks5h://user:pw@host:1080", "HTTP://host", "[::1]:3128", "https://host:443"]
)
def test_proxies(proxy: str) -> None:
    assert check_proxy(proxy).endswith(proxy)


@pytest.mark.parametrize(
    "proxy",
    [
        "ftp://host",
        "file:///dev/zero",
        "http://",
        "http://[",
        "a b",
        "host:0x",
        "host:99999",
        "ho\0st",
        "hö",
        "\n",
        "//",
    ],
)
def test_what_is_no_proxy(proxy: str) -> None:
    with pytest.raises(InvalidURLError, match="proxy"):
        check_proxy(proxy)


def test_the_password_of_a_proxy_is_in_no_message() -> None:
    with pytest.raises(InvalidURLError) as caught:
        check_proxy("ftp://user:secret@host")
    assert "secret" not in str(caught.value)
