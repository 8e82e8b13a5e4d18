"""What goes along with a request: the same for every transport.

Header fields that the user has chosen are for the servers that the user has named, and so are the client's
certificate and its key. Where a redirect leads, or what a list of mirrors names, is chosen by a server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.http.fetcher import origin_of

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Options


def is_named(options: Options, asked: str, first: str) -> bool:
    """Tell whether the user has named the server of a URL.

    Args:
        options: With the origins that the user has named, if that is known.
        asked: The URL that is asked for, to which redirects may have led.
        first: The URL that was asked for in the first place; named, if nothing else is known.
    """
    if options.origins is None:
        return asked is first or origin_of(asked) == origin_of(first)
    return origin_of(asked) in options.origins


def select_headers(options: Options, asked: str, first: str) -> dict[str, str]:
    """Return the chosen header fields that a server may see: all or none; see `is_named`."""
    return dict(options.headers) if options.headers and is_named(options, asked, first) else {}
