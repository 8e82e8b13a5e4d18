"""What goes along with a request: the same for every transport."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.http.fetcher import origin_of

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Options

SENSITIVE_HEADERS: Final = frozenset({"authorization", "cookie"})
"""Header fields that are meant for one server."""


def select_headers(options: Options, asked: str, first: str) -> dict[str, str]:
    """Return the chosen header fields that a server may see.

    Args:
        options: With those that the user has chosen.
        asked: The URL that is asked for, to which redirects may have led.
        first: The URL that was asked for in the first place.
    """
    if asked is first or origin_of(asked) == origin_of(first):
        return dict(options.headers)
    return {name: value for name, value in options.headers.items() if name.lower() not in SENSITIVE_HEADERS}
