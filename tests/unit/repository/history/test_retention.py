"""Which versions stay by rules about their times."""

from __future__ import annotations

import time
from calendar import timegm

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.repository.history.retention import RetentionRules, choose_kept

DAY = 86400.0
HOUR = 3600.0


@pytest.fixture(autouse=True)
def _utc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()


def at(*moment: int) -> float:
    return float(timegm((*moment, *(0,) * (6 - len(moment)))))


NOW = at(2026, 3, 1, 12)
TIMES = [
    at(2024, 12, 31, 23),
    at(2025, 12, 31, 1),
    at(2025, 12, 31, 2),
    at(2026, 1, 1),
    at(2026, 2, 22, 23),
    at(2026, 2, 23, 1),
    at(2026, 3, 1, 10, 59),
    at(2026, 3, 1, 11, 0),
    at(2026, 3, 1, 11, 30),
]

CASES = {
    "nothing": (RetentionRules(), set()),
    "last": (RetentionRules(last=2), {7, 8}),
    "none of the last": (RetentionRules(last=0), set()),
    "more than there are": (RetentionRules(last=99), set(range(9))),
    "within an hour": (RetentionRules(within_s=HOUR), {7, 8}),
    "within, to the second": (RetentionRules(within_s=1800), {8}),
    "hourly": (RetentionRules(hourly=2), {8, 6}),
    "daily": (RetentionRules(daily=3), {8, 5, 4}),
    "weekly: a week begins on Monday": (RetentionRules(weekly=2), {8, 4}),
    "weekly over New Year": (RetentionRules(weekly=4), {8, 4, 3, 0}),
    "monthly": (RetentionRules(monthly=3), {8, 5, 3}),
    "yearly": (RetentionRules(yearly=3), {8, 2, 0}),
    "together": (RetentionRules(last=1, yearly=2), {8, 2}),
}


@pytest.mark.parametrize("name", CASES)
def test_what_stays(name: str) -> None:
    rules, expected = CASES[name]
    found = choose_kept(TIMES, rules, NOW)
    assert {index for index, reasons in enumerate(found) if reasons} == expected


def test_every_reason_is_said() -> None:
    assert choose_kept([NOW, NOW - DAY], RetentionRules(last=1, daily=2, yearly=1), NOW) == [
        ("last", "daily", "yearly"),
        ("daily",),
    ]


def test_of_equal_times_the_first_is_the_newer() -> None:
    assert choose_kept([5.0, 5.0], RetentionRules(last=1), NOW) == [("last",), ()]


def test_days_are_those_of_the_place(monkeypatch: pytest.MonkeyPatch) -> None:
    times = [at(2026, 1, 1, 23, 30), at(2026, 1, 2, 0, 30)]
    assert choose_kept(times, RetentionRules(daily=2), NOW) == [("daily",), ("daily",)]
    monkeypatch.setenv("TZ", "EST5")
    time.tzset()
    assert choose_kept(times, RetentionRules(daily=2), NOW) == [(), ("daily",)]


def test_times_that_no_calendar_has() -> None:
    assert choose_kept([1e19, 2e19], RetentionRules(daily=5), NOW) == [("daily",), ("daily",)]


COUNTS = st.one_of(st.none(), st.integers(0, 9))


@given(
    st.lists(st.floats(0, 2e9), max_size=40),
    st.builds(
        RetentionRules,
        last=COUNTS,
        within_s=st.one_of(st.none(), st.floats(0, 1e9)),
        hourly=COUNTS,
        daily=COUNTS,
        weekly=COUNTS,
        monthly=COUNTS,
        yearly=COUNTS,
    ),
)
def test_rules_keep_no_more_than_they_say_and_the_newest(times: list[float], rules: RetentionRules) -> None:
    found = choose_kept(times, rules, 2e9)
    for name in ("last", "hourly", "daily", "weekly", "monthly", "yearly"):
        count = sum(name in reasons for reasons in found)
        assert count <= (getattr(rules, name) or 0)
        if getattr(rules, name) and times:
            assert name in found[times.index(max(times))]
    kept = [seconds for seconds, reasons in zip(times, found, strict=True) if "within" in reasons]
    assert kept == [s for s in times if rules.within_s is not None and s >= 2e9 - rules.within_s]
