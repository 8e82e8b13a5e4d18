"""Fetching with libcurl: many small bodies at once in one thread.

Importing this module imports `pycurl`, which is an optional package; `cfsctl.http.open_fetcher` does so
only if it is installed.

Each transfer has a slot (`cfsctl.http.curl_handle`); libcurl's multi interface drives all of them. A body
reaches its sink in one piece unless it is larger than `Limits.hold_bytes`; then it streams in pieces of
about that size. For a small object that leaves libcurl's own work and a handful of Python calls.

    next_job ──▶ slot (easy handle) ──▶ multi ──▶ body ──▶ sink ──▶ result
                   ▲                      │
                   └──── backlog ◀── failed for now
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, TypeVar, cast

import pycurl

from cfsctl import heartbeat
from cfsctl.http.attempt import Attempt, Redirected, find_partial
from cfsctl.http.authorities import find_ca_file
from cfsctl.http.concurrency import Window
from cfsctl.http.curl_handle import DocumentSlot, Slot
from cfsctl.http.document import Document
from cfsctl.http.errors import THROTTLING_STATUSES, HTTPStatusError, RedirectError, TransferError
from cfsctl.http.fetcher import Statistics
from cfsctl.http.process import ProcessLocal
from cfsctl.http.retry import Backlog, compute_pause, find_other, may_resume, raise_explained
from cfsctl.http.trace import find_trace, tell_again, tell_elsewhere, tell_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from cfsctl.http.fetcher import Job, Limits, Options, Response
    from cfsctl.http.trace import Trace

T = TypeVar("T")

_MAX_WAIT_S: Final = 1.0
"""Longest sleep in one go, so that signals are seen."""

_LOOK_INTERVAL_S: Final = 0.25
"""How often transfers are looked at that may be taking too long."""

_NO_SOCKET_WAIT_S: Final = 0.01
"""Sleep where libcurl works but has no socket to wait for."""

_TIMED_REQUESTS: Final = 8
"""Requests of which it is noted how fast the answer comes: documents, while little else is in flight."""

_FIRST_STREAMS: Final = 32
"""Requests in flight once the server turns out to speak HTTP/2."""


class _Line:
    """A multi handle with its slots: everything that one process uses for one run of jobs at a time."""

    def __init__(
        self, limits: Limits, options: Options, make_slot: Callable[[], Slot], statistics: Statistics
    ) -> None:
        self._limits = limits
        self._options = options
        self._trace: Trace | None = None
        self._make_slot = make_slot
        self._statistics = statistics
        self._window = Window(limits.connections, limits.connections_max)
        self._free: list[Slot] = []
        self._active: dict[object, Slot] = {}
        self._backlog: Backlog[Attempt] = Backlog()
        self._looked_s = 0.0
        self._is_protocol_known = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, limits.connections_max)
        self._multi.setopt(pycurl.M_MAXCONNECTS, limits.connections_max)

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        """Run jobs; see `Fetcher.transfer`."""
        self._window.resume(time.monotonic())
        self._trace = find_trace(self._options)
        active = self._active
        try:
            while self._fill(next_job):
                self._multi.perform()
                self._end_delayed()
                _, done, failed = self._multi.info_read()
                if not done and not failed:
                    self._wait()
                    continue
                for handle in done:
                    slot = active[handle]
                    try:
                        result = slot.complete()
                    except TransferError as error:
                        self._settle(slot, error)
                    else:
                        self._retire(slot)
                        yield result
                        del result  # which may be large
                self._window.count(len(done))
                for handle, code, message in failed:
                    self._settle(active[handle], active[handle].explain(code, message))
        finally:
            self._cancel()
            self._window.pause(time.monotonic())

    def _fill(self, next_job: Callable[[], Job[T] | None]) -> bool:
        """Start what may be started; return whether anything is in flight or will be."""
        active, backlog, size = self._active, self._backlog, self._window.size
        while len(active) < size:
            again = backlog.pop_due(time.monotonic()) if backlog else None
            if again is not None:
                self._start(again)
                continue
            # What waits for its next attempt counts: a server in trouble is not asked for more.
            if len(active) + len(backlog) >= size:
                break
            job = next_job()
            if job is None:
                break
            self._start(Attempt(job, partial=find_partial(job)))
        return bool(active or backlog)

    def _start(self, attempt: Attempt) -> None:
        slot = self._free.pop() if self._free else self._make_slot()
        try:
            slot.begin(attempt, self._trace)
        except BaseException:
            self._free.append(slot)
            if attempt.partial is not None:
                attempt.partial.sink.abort()
            raise
        self._active[slot.handle] = slot
        self._multi.add_handle(slot.handle)
        self._statistics.requests += 1

    def _end_delayed(self) -> None:
        """End transfers that take too long, now and then."""
        now_s = time.monotonic()
        if now_s - self._looked_s < _LOOK_INTERVAL_S:
            return
        self._looked_s = now_s
        for slot in list(self._active.values()):
            error = slot.find_delay(now_s)
            if error is not None:
                self._settle(slot, error)

    def _retire(self, slot: Slot) -> None:
        """Take a slot out of what is in flight."""
        handle = slot.handle
        self._multi.remove_handle(handle)
        del self._active[handle]
        self._statistics.received_bytes += slot.received - slot.offset
        slot.release()
        self._free.append(slot)
        if self._statistics.requests <= _TIMED_REQUESTS and slot.received:
            get = handle.getinfo
            self._statistics.note_round_trip(get(pycurl.STARTTRANSFER_TIME) - get(pycurl.PRETRANSFER_TIME))
        if not self._is_protocol_known:
            self._is_protocol_known = True
            if handle.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0:
                self._window.widen(_FIRST_STREAMS, self._limits.streams_max)

    def _settle(self, slot: Slot, error: BaseException) -> None:
        """Schedule a failed transfer for a retry, or raise."""
        attempt = cast("Attempt", slot.attempt)
        tell_failure(slot.exchange, error, slot.lines)
        if isinstance(error, Redirected):
            if attempt.redirects < self._limits.redirects:
                self._follow(slot, attempt, error.target)
                return
            error = RedirectError(f"more than {self._limits.redirects} redirects", attempt.job.url)
        partial = slot.break_off() if isinstance(error, TransferError) and may_resume(error) else None
        self._retire(slot)
        if not isinstance(error, TransferError):
            raise error
        now_s = time.monotonic()
        if isinstance(error, HTTPStatusError) and error.status in THROTTLING_STATUSES:
            self._window.throttle(now_s)
        number = attempt.number
        if partial is not None and partial.received - (
            attempt.partial.received if attempt.partial else 0
        ) >= (self._limits.progress_bytes):
            number = 1
        pause_s = compute_pause(error, number, self._limits)
        if pause_s is None:
            if partial is not None:
                partial.sink.abort()
            other = find_other(attempt.job, error)
            if other is None:
                raise_explained(attempt.job, error)
            tell_elsewhere(self._trace, attempt.job.url, other.url)
            self._backlog.add(now_s, Attempt(other, partial=find_partial(other)))
            return
        self._statistics.retries += 1
        tell_again(self._trace, attempt.job.url, number, pause_s)
        self._backlog.add(now_s + pause_s, Attempt(attempt.job, number + 1, partial))

    def _follow(self, slot: Slot, attempt: Attempt, target: str) -> None:
        """Send the same request to the target of a redirect."""
        following = attempt._replace(
            url=target, redirects=attempt.redirects + 1, began_s=slot.began_s, partial=slot.keep()
        )
        self._retire(slot)
        self._backlog.add(time.monotonic(), following)

    def _wait(self) -> None:
        """Sleep until a socket is ready, libcurl has a timer, or something is to be tried again."""
        began_s = time.monotonic()
        timeout_s = _MAX_WAIT_S
        if self._backlog:
            timeout_s = min(timeout_s, self._backlog.compute_wait(began_s) or 0.0)
        if not self._active:
            heartbeat.sleep(timeout_s)
            return
        if heartbeat.is_watched():
            timeout_s = min(timeout_s, heartbeat.INTERVAL_S)
            heartbeat.beat()
        timer_ms = self._multi.timeout()
        if timer_ms >= 0:
            timeout_s = min(timeout_s, timer_ms / 1000)
        if self._multi.select(timeout_s) < 0:
            time.sleep(min(timeout_s, _NO_SOCKET_WAIT_S))
        if len(self._active) >= self._window.size:
            now_s = time.monotonic()
            self._window.adapt(now_s - began_s, now_s)

    def _cancel(self) -> None:
        for slot in list(self._active.values()):
            self._retire(slot)
        for attempt in self._backlog.drain():
            if attempt.partial is not None:
                attempt.partial.sink.abort()

    def close(self) -> None:
        """Close all connections."""
        for slot in self._free:
            slot.handle.close()
        self._free.clear()
        self._multi.close()


class _Lines:
    """Lines of one kind in one process: a run of jobs takes one that is idle."""

    def __init__(self, make_line: Callable[[], _Line]) -> None:
        self._make_line = make_line
        self._idle: list[_Line] = []

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        line = self._idle.pop() if self._idle else self._make_line()
        try:
            yield from line.transfer(next_job)
        finally:
            self._idle.append(line)

    def close(self) -> None:
        while self._idle:
            self._idle.pop().close()


class CurlFetcher:
    """A `Fetcher` on libcurl."""

    def __init__(self, limits: Limits, options: Options) -> None:
        """Keep the settings; nothing is opened before it is needed."""
        self._limits = limits
        self._options = options
        self._statistics = ProcessLocal(Statistics)
        self._bulk = ProcessLocal(lambda: _Lines(lambda: self._make_line(Slot)))
        self._control = ProcessLocal(lambda: _Lines(lambda: self._make_line(DocumentSlot)))

    @property
    def statistics(self) -> Statistics:
        """Return the counters of this process."""
        return self._statistics.get()

    def _make_line(self, slot_type: type[Slot]) -> _Line:
        ca_file = find_ca_file(self._options)
        return _Line(
            self._limits,
            self._options,
            lambda: slot_type(self._limits, self._options, ca_file),
            self.statistics,
        )

    def get(
        self,
        url: str,
        *,
        limit_bytes: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> Response:
        """Return a whole document; see `Fetcher.get`."""
        document = Document(url, limit_bytes, headers, authorization)
        jobs = iter([document])
        (body,) = self._control.get().transfer(lambda: next(jobs, None))
        return document.to_response(body)

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        """Run jobs; see `Fetcher.transfer`."""
        return self._bulk.get().transfer(next_job)

    def close(self) -> None:
        """Close the connections of this process."""
        for lines in (self._bulk.drop(), self._control.drop()):
            if lines is not None:
                lines.close()
