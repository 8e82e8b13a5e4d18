"""Jobs for tests: bodies that are kept, sinks that count how they were used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from cfsctl.http.fetcher import Limits

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.fetcher import Fetcher

QUICK = Limits(
    connect_timeout_s=60,
    stall_timeout_s=60,
    low_speed_time_s=60,
    connections=4,
    connections_max=4,
    attempts=3,
    timeout_attempts=1,
    backoff_s=0.01,
    retry_after_max_s=0.05,
    hold_bytes=1000,
)
"""Few attempts with short pauses, and patience: a busy machine makes our servers slow, too."""

BRIEF = replace(QUICK, stall_timeout_s=1, low_speed_time_s=1)
"""For tests in which every request meets silence, or each may be tried again."""

SILENT = replace(QUICK, stall_timeout_s=3, low_speed_time_s=3)
"""For pulls in which one request of many meets silence: no pause of the machine is that long."""


@dataclass
class Body:
    """A job whose result is (URL, body), and which is its own sink's record.

    Attributes:
        chunks: Sizes of the pieces in which the body came, for each sink that was made.
        aborted: Sinks that were aborted.
    """

    url: str
    limit_bytes: int | None = None
    refuse: Callable[[bytes], None] | None = None
    chunks: list[list[int]] = field(default_factory=list)
    aborted: int = 0

    def make_sink(self) -> Sink:
        self.chunks.append([])
        return Sink(self)

    def explain(self, error: TransferError, /) -> CfsError:
        return error.about("thing")


class Sink:
    def __init__(self, job: Body) -> None:
        self._job = job
        self._data = b""

    def write(self, chunk: bytes, /) -> None:
        self._job.chunks[-1].append(len(chunk))
        self._data += chunk
        if self._job.refuse is not None:
            self._job.refuse(self._data)

    def finish(self) -> tuple[str, bytes]:
        return self._job.url, self._data

    def abort(self) -> None:
        self._job.aborted += 1


def transfer(fetcher: Fetcher, jobs: Iterable[Body]) -> dict[str, bytes]:
    """Run the jobs and return the body for each URL."""
    pending = iter(jobs)
    return dict(fetcher.transfer(lambda: next(pending, None)))


def fetch(fetcher: Fetcher, url: str, limit_bytes: int | None = None) -> bytes:
    """Return one body by way of `transfer`."""
    return transfer(fetcher, [Body(url, limit_bytes)])[url]
