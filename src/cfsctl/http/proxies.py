"""The proxies that the environment names."""

from __future__ import annotations

import os


def environment_proxies() -> dict[str, str]:
    """Return the proxy for each scheme: ``http_proxy``, ``https_proxy``, or else ``all_proxy``."""
    every = read_variable("all_proxy")
    found = {scheme: read_variable(f"{scheme}_proxy") or every for scheme in ("http", "https")}
    return {scheme: url for scheme, url in found.items() if url}


def read_variable(name: str) -> str:
    """Return a variable of the environment, in small letters or, but for http_proxy, in capitals.

    A web server hands the header field ``Proxy`` of a request to its programs as HTTP_PROXY.
    """
    if name in os.environ or name == "http_proxy":
        return os.environ.get(name, "")
    return os.environ.get(name.upper(), "")
