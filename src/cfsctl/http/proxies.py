"""Choose the proxy for a request, from the environment and ``no_proxy``.

Both transports use this module, so that ``no_proxy`` has the same meaning with each of them.
"""

from __future__ import annotations

import functools
import os
import re
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING, Final

from cfsctl.http.urls import InvalidURLError, origin_of, redact_url

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Options

_SCHEMES: Final = frozenset({"http", "https", "socks4", "socks4a", "socks5", "socks5h"})
_PORT: Final = re.compile(r"(?P<host>\[[^\]]*\]|[^:]*):(?P<port>\d{1,5})", re.ASCII)


def environment_proxies() -> dict[str, str]:
    """Return the proxy for each scheme: ``http_proxy``, ``https_proxy``, or else ``all_proxy``."""
    every = read_variable("all_proxy")
    found = {scheme: read_variable(f"{scheme}_proxy") or every for scheme in ("http", "https")}
    return {scheme: url for scheme, url in found.items() if url}


def read_variable(name: str) -> str:
    """Return a variable of the environment, in small letters or, except for http_proxy, in capitals.

    A web server hands the header field ``Proxy`` of a request to its programs as HTTP_PROXY.
    """
    if name in os.environ or name == "http_proxy":
        return os.environ.get(name, "")
    return os.environ.get(name.upper(), "")


def choose_proxy(options: Options, url: str) -> str | None:
    """Return the URL of the proxy for a request, or None if it goes directly.

    Raises:
        InvalidURLError: What is configured is not a URL of a proxy.
    """
    scheme, host, port = origin_of(url)
    proxy = options.proxies.get(scheme)
    if not proxy or is_exempt(host, port, options.no_proxy):
        return None
    return check_proxy(proxy)


@functools.lru_cache(16)
def check_proxy(proxy: str) -> str:
    """Return the URL of a proxy, with ``http`` if the scheme was omitted.

    Raises:
        InvalidURLError: Another scheme, no host, or characters that do not belong into a URL.
    """
    from urllib.parse import urlsplit  # few have a proxy

    url = proxy if "://" in proxy else f"http://{proxy}"
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
        parts = None
    has_odd = any(character <= " " or character == "\x7f" for character in url) or not url.isascii()
    if has_odd or not host or parts is None or parts.scheme not in _SCHEMES:
        raise InvalidURLError(
            f"{redact_url(url)!r} is not the URL of a proxy: expected http://HOST:PORT",
            hint="check --proxy, the remote's proxy, and http_proxy, https_proxy and all_proxy",
        )
    return url


def is_exempt(host: str, port: int, no_proxy: str) -> bool:
    """Return whether a host is reached directly.

    Args:
        host: Name or address, without brackets.
        port: Its port.
        no_proxy: Entries separated by commas or spaces: ``*``; a domain, with or without a dot in front,
            which stands for itself and what is below it; an address; a network such as ``10.0.0.0/8``.
            All but a network may have a port.
    """
    return _is_exempt(host.lower().rstrip("."), port, no_proxy) if no_proxy else False


@functools.lru_cache(64)
def _is_exempt(host: str, port: int, no_proxy: str) -> bool:
    address = _parse_address(host)
    return any(_matches(host, address, port, entry) for entry in no_proxy.lower().replace(",", " ").split())


def _matches(host: str, address: IPv4Address | IPv6Address | None, port: int, entry: str) -> bool:
    if entry == "*":
        return True
    if "/" in entry:
        return address is not None and _is_within(address, entry)
    own = _PORT.fullmatch(entry)
    if own is not None:
        entry = own["host"]
        if int(own["port"]) != port:
            return False
    if address is not None:
        return address == _parse_address(entry)
    domain = entry.strip(".")
    return entry == "*" or (bool(domain) and (host == domain or host.endswith("." + domain)))


def _is_within(address: IPv4Address | IPv6Address, entry: str) -> bool:
    try:
        network = ip_network(entry.replace("[", "").replace("]", ""), strict=False)
    except ValueError:
        return False
    return address.version == network.version and address in network


def _parse_address(text: str) -> IPv4Address | IPv6Address | None:
    """Return the address that some text is, in brackets or not; None for a name."""
    try:
        address = ip_address(text.removeprefix("[").removesuffix("]").partition("%")[0])
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return mapped or address
