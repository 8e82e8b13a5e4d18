"""Decide whether a response "not modified" can be trusted, which depends on what the server compares.

Format: RFC 9110, 5.6.7 (dates), 8.8.1 to 8.8.3 (validators). Dates have a resolution of one second, so two
versions within a second have the same date. nginx and Apache compute the entity tag from date and size, but
call it strong.
"""

from __future__ import annotations

import calendar
import re
import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Response

GRANULARITY_S: Final = 1
"""Seconds that a date may be off."""

AHEAD_S: Final = 24 * 60 * 60
"""Seconds that clocks may differ."""

OLDEST_S: Final = calendar.timegm((1990, 1, 1, 0, 0, 0))
"""Files older than HTTP have artificial times, which all of their versions may share."""

_DATE: Final = re.compile(
    r"(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun), (\d\d) (Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec) (\d{4})"
    r" (\d\d):(\d\d):(\d\d) GMT",
    re.ASCII,
)
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")

_HASH: Final = re.compile(r"[A-Za-z0-9+/=_]{22,}", re.ASCII)
"""Part of a tag that is long enough for a hash of 128 bits, and too long for a date and a size."""

_NUMBERS: Final = re.compile(r'"?[0-9A-Fa-f]+(?:[-.:_][0-9A-Fa-f]+)*"?')
"""A tag that may be nothing but a date and a size."""


def parse_date(text: str | None) -> int | None:
    """Return the seconds since 1970 that a date stands for, or None for anything else."""
    match = None if text is None else _DATE.fullmatch(text.strip(" \t"))
    if match is None:
        return None
    day, month, year, hour, minute, second = match.groups()
    numbers = (int(year), _MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second))
    is_date = 1 <= numbers[2] <= 31 and numbers[3] < 24 and numbers[4] < 60 and numbers[5] <= 60
    return calendar.timegm(numbers) if is_date else None


def is_strong(etag: str | None, last_modified: str | None) -> bool:
    """Return whether another version surely has another tag.

    A tag next to a date, or of numbers only, is trusted to be made of a date unless a hash may be in it.
    """
    if etag is None or etag.startswith("W/"):
        return False
    if _HASH.search(etag) is not None:
        return True
    return last_modified is None and _NUMBERS.fullmatch(etag) is None


def can_be_told_apart(response: Response, made_s: int | None) -> bool:
    """Return whether another version than this one would have another tag or date.

    Args:
        response: The answer.
        made_s: When its content says that it was made, or None.
    """
    if is_strong(response.etag, response.last_modified):
        return True
    modified_s, answered_s = parse_date(response.last_modified), parse_date(response.date)
    if modified_s is None or answered_s is None or not OLDEST_S <= modified_s <= time.time() + AHEAD_S:
        return False  # also a time in the future, which must be artificial
    if made_s is not None and modified_s + GRANULARITY_S < made_s:
        return False  # a file cannot be older than what is in it, unless its times were set
    return answered_s - modified_s > GRANULARITY_S
