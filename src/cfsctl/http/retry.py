"""Decide when to retry a request, and how long to wait before.

Only temporary errors are retried: a failed or broken connection, a timeout, a truncated body, and statuses
that mean "later". A missing file is not requested again.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Generic, NoReturn, TypeVar, cast

from cfsctl.http.errors import FetchTimeoutError, ResumeError

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.fetcher import Job, Limits

T = TypeVar("T")


def compute_pause(
    error: TransferError, attempt: int, limits: Limits, jitter: Callable[[], float] | None = None
) -> float | None:
    """Return how many seconds to wait before asking again, or None not to.

    Args:
        error: What the attempt ended with.
        attempt: Its number; the first is 1.
        limits: Attempts and pauses.
        jitter: Gives a number from 0 to 1, so that clients do not come back all at once; None draws one.
    """
    if not error.is_transient or attempt >= limits.attempts:
        return None
    if isinstance(error, FetchTimeoutError) and attempt >= limits.timeout_attempts:
        return None
    if jitter is None:
        import random  # most requests succeed at once

        jitter = random.random
    pause: float = min(limits.backoff_s * 2 ** (attempt - 1), limits.backoff_max_s) * (0.5 + jitter())
    if error.retry_after_s is not None:
        pause = max(pause, min(error.retry_after_s, limits.retry_after_max_s))
    return pause


def find_other(job: Job[object], error: TransferError) -> Job[object] | None:
    """Return a job for the same thing from elsewhere, if the one that failed for good knows of one."""
    find = getattr(job, "find_other", None)
    return None if find is None else cast("Job[object] | None", find(error))


def may_resume(error: TransferError) -> bool:
    """Return whether what has arrived before an error is worth keeping for the next attempt."""
    return error.is_transient and not isinstance(error, ResumeError)


def doubt(error: CfsError, url: str) -> ResumeError:
    """Return the error for a body in two pieces that is refused: it may be those of two bodies."""
    resumed = ResumeError(
        f"rejected after a resumed transfer; its pieces may come from different versions: {error}", url
    )
    resumed.__cause__ = error
    return resumed


def raise_explained(job: Job[object], error: TransferError) -> NoReturn:
    """Raise what a job makes of an error that is final."""
    explained = job.explain(error)
    if explained is error:
        raise error
    raise explained from error


def parse_retry_after(
    text: str | None, now: Callable[[], datetime] = lambda: datetime.now(UTC)
) -> float | None:
    """Return the seconds that a Retry-After header asks for; None if it says nothing we understand.

    Format: RFC 9110, 10.2.3: a number of seconds or an HTTP date.
    """
    if text is None:
        return None
    text = text.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    from email.utils import parsedate_to_datetime  # few servers send dates

    try:
        return max(0.0, (parsedate_to_datetime(text) - now()).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


class Backlog(Generic[T]):
    """Things to be tried again, each not before its time."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._heap: list[tuple[float, int, T]] = []
        self._count = 0

    def __len__(self) -> int:
        """Return how many wait."""
        return len(self._heap)

    def add(self, due_s: float, thing: T) -> None:
        """Keep `thing` until the clock shows `due_s`."""
        import heapq  # most requests succeed at once

        self._count += 1
        heapq.heappush(self._heap, (due_s, self._count, thing))

    def pop_due(self, now_s: float) -> T | None:
        """Return the thing that has waited longest beyond its time, or None."""
        if not self._heap or self._heap[0][0] > now_s:
            return None
        import heapq  # as in `add`

        return heapq.heappop(self._heap)[2]

    def drain(self) -> list[T]:
        """Return all things that wait, in no particular order, and keep none."""
        things = [thing for _, _, thing in self._heap]
        self._heap.clear()
        return things

    def compute_wait(self, now_s: float) -> float | None:
        """Return the seconds until the next thing is due; None if nothing waits."""
        return max(0.0, self._heap[0][0] - now_s) if self._heap else None
