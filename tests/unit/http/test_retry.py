"""When to try again, and when not before."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cfsctl.http.errors import (
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    RedirectError,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
)
from cfsctl.http.fetcher import Limits
from cfsctl.http.retry import Backlog, compute_pause, parse_retry_after

URL = "http://host/x"
LIMITS = Limits(attempts=4, timeout_attempts=2, backoff_s=1.0, backoff_max_s=3.0, retry_after_max_s=10.0)


@pytest.mark.parametrize("status", range(300, 600))
def test_statuses_that_are_tried_again(status: int) -> None:
    again = compute_pause(HTTPStatusError(URL, status), 1, LIMITS) is not None
    assert again == (status in {408, 429, 500, 502, 503, 504})


@pytest.mark.parametrize(
    ("error", "pauses"),
    [
        (ConnectFailedError("refused", URL), [1.0, 2.0, 3.0, None]),
        (TruncatedBodyError("short", URL), [1.0, 2.0, 3.0, None]),
        (FetchTimeoutError("slow", URL), [1.0, None]),
        (HTTPStatusError(URL, 503, 5.0), [5.0, 5.0, 5.0, None]),
        (HTTPStatusError(URL, 503, 1.5), [1.5, 2.0, 3.0, None]),
        (HTTPStatusError(URL, 429, 86400.0), [10.0, 10.0, 10.0, None]),
        (HTTPStatusError(URL, 404), [None]),
        (TooLargeError(URL, 10), [None]),
        (RedirectError("loop", URL), [None]),
        (TLSError("unknown authority", URL), [None]),
        (TransferError("odd", URL), [None]),
    ],
)
def test_pauses(error: TransferError, pauses: list[float | None]) -> None:
    found = [compute_pause(error, attempt, LIMITS, lambda: 0.5) for attempt in range(1, len(pauses) + 1)]
    assert found == pauses


def test_pauses_are_jittered() -> None:
    error = ConnectFailedError("refused", URL)
    assert compute_pause(error, 1, LIMITS, lambda: 0.0) == 0.5
    assert compute_pause(error, 1, LIMITS, lambda: 1.0) == 1.5


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        (None, None),
        ("0", 0.0),
        (" 120 ", 120.0),
        ("9" * 400, 999999999.0),
        ("Wed, 01 Jan 2025 00:01:00 GMT", 60.0),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 0.0),
        ("Wed, 01 Jan 2025 00:01:00", None),
        ("soon", None),
        ("-5", None),
        ("\u0663", None),
        ("", None),
    ],
)
def test_retry_after(text: str | None, seconds: float | None) -> None:
    assert parse_retry_after(text, lambda: datetime(2025, 1, 1, tzinfo=UTC)) == seconds


@given(st.lists(st.floats(0, 100)))
def test_the_backlog_gives_back_in_order_and_not_before_time(times: list[float]) -> None:
    backlog: Backlog[float] = Backlog()
    assert backlog.compute_wait(0) is None
    for due in times:
        backlog.add(due, due)
    assert len(backlog) == len(times)
    assert backlog.pop_due(-1) is None
    found = []
    while (wait := backlog.compute_wait(50)) == 0:
        popped = backlog.pop_due(50)
        assert popped is not None
        found.append(popped)
    assert found == sorted(due for due in times if due <= 50)
    assert backlog.pop_due(50) is None
    assert wait is None or wait > 0
