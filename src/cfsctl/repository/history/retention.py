"""Which versions of something stay, by rules about their times; pure, for any kind of version.

A series is a list of versions with times. Each rule keeps some of them, and what no rule keeps goes. The
newest of a period of time stays for it: of ``daily`` the newest of each of the last N days that have any, in
local time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_PERIODS: Final[Mapping[str, str]] = {
    "hourly": "%Y-%m-%d %H",
    "daily": "%Y-%m-%d",
    "weekly": "%G-%V",
    "monthly": "%Y-%m",
    "yearly": "%Y",
}
"""Rules that keep one version of each period, and what versions of the same period have in common."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetentionRules:
    """How many versions of a series stay.

    Attributes:
        last: The newest ones.
        within_s: Those that are not older than this, in seconds.
        hourly: The newest of each of the last hours that have any.
        daily: The same of days.
        weekly: The same of weeks, which begin on Mondays.
        monthly: The same of months.
        yearly: The same of years.
    """

    last: int | None = None
    within_s: float | None = None
    hourly: int | None = None
    daily: int | None = None
    weekly: int | None = None
    monthly: int | None = None
    yearly: int | None = None

    @property
    def is_empty(self) -> bool:
        """Whether there is no rule, which would keep nothing."""
        return all(getattr(self, field.name) is None for field in fields(self))


def choose_kept(times: Sequence[float], rules: RetentionRules, now_s: float) -> list[tuple[str, ...]]:
    """Return the names of the rules that keep each version; none for one that goes.

    Args:
        times: When each version was made, in seconds since 1970, in any order; of equal ones the first counts
            as the newer.
        rules: The rules.
        now_s: The present.
    """
    newest_first = sorted(range(len(times)), key=lambda index: (-times[index], index))
    reasons: list[list[str]] = [[] for _ in times]
    for index in newest_first[: rules.last or 0]:
        reasons[index].append("last")
    if rules.within_s is not None:
        for index in newest_first:
            if times[index] >= now_s - rules.within_s:
                reasons[index].append("within")
    for name, pattern in _PERIODS.items():
        for index in _newest_of_periods(times, newest_first, pattern, getattr(rules, name) or 0):
            reasons[index].append(name)
    return [tuple(found) for found in reasons]


def _newest_of_periods(
    times: Sequence[float], newest_first: Sequence[int], pattern: str, count: int
) -> list[int]:
    found: dict[str, int] = {}
    for index in newest_first:
        if len(found) >= count:
            break
        found.setdefault(_period_of(times[index], pattern), index)
    return list(found.values())


def _period_of(seconds: float, pattern: str) -> str:
    """Return what the times of a period have in common; a time that no calendar has is a period by itself."""
    try:
        return time.strftime(pattern, time.localtime(seconds))
    except (ValueError, OverflowError, OSError):
        return str(seconds)
