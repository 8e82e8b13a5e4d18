"""Check the age of a verified summary: replaying an old one, which is signed too, would hide updates.

Format: libostree's metadata of a summary, ``ostree.summary.last-modified`` and ``ostree.summary.expires``,
seconds since 1970 as 64 bits, big-endian, unlike the rest.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

from cfsctl.ostree.byte_order import swap64
from cfsctl.ostree.store.binding import MAX_AHEAD_S, PolicyError, format_time
from cfsctl.ostree.summary.format import find_values

if TYPE_CHECKING:
    from cfsctl.ostree.summary.cache import SummaryCache
    from cfsctl.ostree.summary.format import Summary

_LAST_MODIFIED: Final = "ostree.summary.last-modified"
_EXPIRES: Final = "ostree.summary.expires"


class SummaryAgeError(PolicyError):
    """A summary that was good once, and is not the latest."""


def check_summary_age(
    what: str, summary: Summary, cache: SummaryCache | None, url: str, *, allow_older: bool
) -> None:
    """Check that a verified summary has not expired and is not older than one that was seen before.

    The latest time is kept in the cache; where none exists, only the expiry is checked.

    Args:
        what: What messages call it.
        summary: The summary.
        cache: Where the time of the latest one is.
        url: What it is the summary of.
        allow_older: Take an older one, and count from its time.

    Raises:
        SummaryAgeError: It has expired, or is older.
    """
    expires_s = _read_time(summary, _EXPIRES)
    if expires_s is not None and expires_s < time.time():
        raise SummaryAgeError(
            f"{what}: expected one that is valid now, found one that expired at {format_time(expires_s)}",
            hint="the server must publish a new one; also check the clocks",
        )
    if cache is None:
        return
    if not allow_older:
        _check_not_ahead(what, _read_time(summary, _LAST_MODIFIED))
    made_s, latest_s = _read_time(summary, _LAST_MODIFIED), cache.find_time(url)
    if latest_s is not None and (made_s is None or made_s < latest_s) and not allow_older:
        found = "one that does not say" if made_s is None else f"one of {format_time(made_s)}"
        raise SummaryAgeError(
            f"{what}: expected one made at {format_time(latest_s)} or later, found {found}",
            hint="updates may be hidden from you; use --allow-downgrade if the server was rolled back",
        )
    if made_s is not None and made_s != latest_s:
        cache.save_time(url, made_s)


def _check_not_ahead(what: str, made_s: int | None) -> None:
    """Refuse a time that would make every later summary an older one."""
    if made_s is not None and made_s > time.time() + MAX_AHEAD_S:
        raise SummaryAgeError(
            f"{what}: expected one that was not made in the future, found one of {format_time(made_s)}",
            hint="check the clocks; --allow-downgrade accepts it",
        )


def _read_time(summary: Summary, name: str) -> int | None:
    """Return a time in seconds, or None if it is missing or has the wrong type."""
    variant = next(reversed(find_values(summary.metadata, name)), None)
    if variant is None or variant.type != "t" or not isinstance(variant.value, int):
        return None
    return swap64(variant.value)
