"""Fetching over HTTP: one seam, two transports, limits on everything."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING

from cfsctl.http.fetcher import Limits, Options
from cfsctl.http.request import check_options

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Fetcher

__all__ = ["Transport", "open_fetcher"]


class Transport(Enum):
    """What fetches: `CURL` needs the optional package pycurl; `REQUESTS` is always there and slower."""

    CURL = "curl"
    REQUESTS = "requests"


def open_fetcher(
    limits: Limits | None = None, options: Options | None = None, *, transport: Transport | None = None
) -> Fetcher:
    """Return a fetcher; its transport is imported now and not before.

    Args:
        limits: How far to go; None is the defaults.
        options: How to reach servers; None is directly.
        transport: None is the fastest that is installed.

    Raises:
        OptionsError: Options that no request can be made with.
    """
    limits = limits or Limits()
    options = options or Options()
    check_options(options)
    if transport is not Transport.REQUESTS:
        try:
            from cfsctl.http.curl import CurlFetcher  # optional, and 30 ms
        except ImportError:
            if transport is Transport.CURL:
                raise
        else:
            return CurlFetcher(limits, options)
    from cfsctl.http.transport import RequestsFetcher  # 140 ms

    return RequestsFetcher(limits, options)
