"""Fetching with `requests`: works everywhere, and is slower than `bulk`.

Many transfers at once need a thread for each connection. The threads only read; sinks are called in the
thread that runs the transfer, which also decides what is asked for:

    next_job ──▶ tasks ──▶ threads ──▶ events (bounded) ──▶ sinks ──▶ results
                   ▲                      │
                   └──── backlog ◀── failed for now
"""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast

from cfsctl import heartbeat
from cfsctl.errors import CfsError
from cfsctl.http.attempt import find_partial
from cfsctl.http.client import Client
from cfsctl.http.concurrency import Window
from cfsctl.http.document import Document
from cfsctl.http.errors import THROTTLING_STATUSES, HTTPStatusError, TransferError
from cfsctl.http.fetcher import Statistics
from cfsctl.http.process import ProcessLocal
from cfsctl.http.retry import Backlog, compute_pause, doubt, find_other, may_resume, raise_explained
from cfsctl.http.trace import tell_again, tell_elsewhere
from cfsctl.workers.threads import join

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping

    from cfsctl.http.answer import Mark
    from cfsctl.http.fetcher import BodySink, Job, Limits, Options, Response

T = TypeVar("T")

_POLL_S: Final = 0.2
"""How often a thread that waits looks whether it still should."""

_JOIN_TIMEOUT_S: Final = 0.1
"""Time to wait for threads after a cancellation; one that is stuck in a read ends by its timeout."""


_IDLE_JOIN_TIMEOUT_S: Final = 5.0
"""The same where no thread is in a read."""


class _Attempt:
    """A transfer under way.

    Attributes:
        job: What is transferred.
        number: Which attempt this is, from 1.
        offset: Bytes of the body that an earlier attempt has brought.
        received: Bytes that the sink has taken, those included.
        mark: What was said about the body when it began.
        sink: Where its body goes, once it has begun to stream; only the calling thread looks at it.
    """

    __slots__ = ("job", "mark", "number", "offset", "received", "sink")

    def __init__(self, job: Job[Any], number: int) -> None:
        self.job = job
        self.number = number
        self.offset = self.received = 0
        self.sink: BodySink[Any] | None = None
        self.mark: Mark | None = None

    @classmethod
    def first(cls, job: Job[Any]) -> _Attempt:
        """Return the first attempt, which goes on with what the job has already."""
        attempt = cls(job, 1)
        partial = find_partial(job)
        if partial is not None:
            attempt.sink, attempt.offset, attempt.mark = partial
            attempt.received = attempt.offset
        return attempt

    def again(self, *, resumes: bool) -> _Attempt:
        """Return the next attempt, with the received bytes if it resumes this one."""
        following = _Attempt(self.job, self.number + 1)
        if resumes and self.sink is not None:
            following.offset = following.received = self.received
            following.sink, self.sink = self.sink, None
            following.mark = self.mark
        return following


class _Event(NamedTuple):
    """What a thread has to say about an attempt: bytes, the end, or a failure."""

    attempt: _Attempt
    data: bytes
    is_last: bool = False
    failure: BaseException | None = None


class _Run:
    """One run of jobs on threads."""

    def __init__(self, client: Client, limits: Limits, statistics: Statistics, window: Window) -> None:
        self._client = client
        self._limits = limits
        self._statistics = statistics
        self._window = window
        self._tasks: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        self._events: queue.Queue[_Event] = queue.Queue(maxsize=2 * limits.connections_max)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._active: set[_Attempt] = set()
        self._backlog: Backlog[_Attempt] = Backlog()

    def iter_results(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        self._window.resume(time.monotonic())
        try:
            while self._fill(next_job):
                event = self._await_event()
                if event is None:
                    continue
                if event.failure is not None:
                    self._settle(event.attempt, event.failure)
                    continue
                try:
                    self._feed(event)
                    if not event.is_last:
                        continue
                    sink, event.attempt.sink = event.attempt.sink, None
                    result = cast("BodySink[T]", sink).finish()
                except CfsError as error:
                    if not event.attempt.offset:
                        raise
                    self._settle(event.attempt, doubt(error, event.attempt.job.url))
                    continue
                self._window.count(1)
                self._active.discard(event.attempt)
                yield result
                del result  # which may be large
        finally:
            self._window.pause(time.monotonic())
            self._stop()

    def _fill(self, next_job: Callable[[], Job[T] | None]) -> bool:
        """Start as many transfers as allowed; return whether any are in flight or scheduled."""
        active, backlog, size = self._active, self._backlog, self._window.size
        while len(active) < size:
            again = backlog.pop_due(time.monotonic())
            if again is None:
                if len(active) + len(backlog) >= size:
                    break
                job = next_job()
                if job is None:
                    break
                again = _Attempt.first(job)
            self._start(again)
        return bool(active or backlog)

    def _start(self, attempt: _Attempt) -> None:
        self._active.add(attempt)
        if len(self._threads) < len(self._active):
            thread = threading.Thread(target=self._work, name="cfsctl-http", daemon=True)
            self._threads.append(thread)
            thread.start()
        self._tasks.put(attempt)

    def _await_event(self) -> _Event | None:
        began_s = time.monotonic()
        wait_s = self._backlog.compute_wait(began_s)
        if not self._active:
            heartbeat.sleep(wait_s or 0.0)
            return None
        heartbeat.beat()
        try:
            return self._events.get(timeout=heartbeat.piece(wait_s))
        except queue.Empty:
            return None
        finally:
            if len(self._active) >= self._window.size:
                now_s = time.monotonic()
                self._window.adapt(now_s - began_s, now_s)

    def _feed(self, event: _Event) -> None:
        attempt = event.attempt
        if attempt.sink is None:
            attempt.sink = attempt.job.make_sink()
        if event.data:
            attempt.sink.write(event.data)
            attempt.received += len(event.data)

    def _settle(self, attempt: _Attempt, error: BaseException) -> None:
        """Schedule a failed attempt for a retry, or raise."""
        self._active.discard(attempt)
        if not isinstance(error, TransferError):
            _abort(attempt)
            raise error
        now_s = time.monotonic()
        if isinstance(error, HTTPStatusError) and error.status in THROTTLING_STATUSES:
            self._window.throttle(now_s)
        if attempt.received - attempt.offset >= self._limits.progress_bytes and may_resume(error):
            attempt.number = 1
        pause_s = compute_pause(error, attempt.number, self._limits)
        if pause_s is None:
            _abort(attempt)
            other = find_other(attempt.job, error)
            if other is None:
                raise_explained(attempt.job, error)
            tell_elsewhere(self._client.find_trace(), attempt.job.url, other.url)
            self._backlog.add(now_s, _Attempt.first(other))
            return
        self._statistics.retries += 1
        tell_again(self._client.find_trace(), attempt.job.url, attempt.number, pause_s)
        self._backlog.add(now_s + pause_s, attempt.again(resumes=may_resume(error)))
        _abort(attempt)

    def _stop(self) -> None:
        """End the threads, discarding what they are still reading."""
        self._stopped.set()
        for attempt in (*self._active, *self._backlog.drain()):
            _abort(attempt)
        for _ in self._threads:
            self._tasks.put(None)
        # Threads that have nothing to do end at once; a process that has any does not fork.
        deadline_s = time.monotonic() + (_JOIN_TIMEOUT_S if self._active else _IDLE_JOIN_TIMEOUT_S)
        for thread in self._threads:
            join(thread, deadline_s - time.monotonic())

    def _work(self) -> None:
        """Read bodies until told to end; runs in a thread."""
        while (attempt := self._tasks.get()) is not None and not self._stopped.is_set():
            try:
                self._read(attempt)
            except Exception as error:  # noqa: BLE001 - raised again in the calling thread
                self._put(_Event(attempt, b"", failure=error))

    def _read(self, attempt: _Attempt) -> None:
        job = attempt.job
        held: list[bytes] = []
        size = 0
        answer = self._client.open(job, attempt.offset, attempt.mark)
        if attempt.mark is None:
            attempt.mark = answer.mark
        with contextlib.closing(self._client.iter_body(answer, job, attempt.offset)) as chunks:
            for chunk in chunks:
                if self._stopped.is_set():
                    return
                held.append(chunk)
                size += len(chunk)
                if size > self._limits.hold_bytes:
                    self._put(_Event(attempt, b"".join(held)))
                    held.clear()
                    size = 0
        self._put(_Event(attempt, b"".join(held), is_last=True))

    def _put(self, event: _Event) -> None:
        while not self._stopped.is_set():
            try:
                self._events.put(event, timeout=_POLL_S)
            except queue.Full:
                continue
            return


def _abort(attempt: _Attempt) -> None:
    sink, attempt.sink = attempt.sink, None
    if sink is not None:
        sink.abort()


def _join(chunks: Iterable[bytes]) -> bytes:
    """Return all chunks as one; they may be many and tiny, so they are not kept as separate objects."""
    body = bytearray()
    for chunk in chunks:
        body += chunk
    return bytes(body)


class RequestsFetcher:
    """A `Fetcher` on `requests`."""

    def __init__(self, limits: Limits, options: Options) -> None:
        """Keep the settings; nothing is opened before it is needed."""
        self._limits = limits
        self._options = options
        self._statistics = ProcessLocal(Statistics)
        self._client = ProcessLocal(lambda: Client(limits, options, self.statistics))
        self._window = ProcessLocal(lambda: Window(limits.connections, limits.connections_max))

    @property
    def statistics(self) -> Statistics:
        """Return the counters of this process."""
        return self._statistics.get()

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
        if heartbeat.is_watched():  # a thread waits for the server, so that this one can do so in pieces
            jobs = iter([document])
            (body,) = self.transfer(lambda: next(jobs, None))
            return document.to_response(body)
        client = self._client.get()
        attempt = 0
        while True:
            attempt += 1
            try:
                chunks = client.iter_body(client.open(document), document)
                return document.to_response(_join(chunks))
            except TransferError as error:
                pause_s = compute_pause(error, attempt, self._limits)
                if pause_s is None:
                    raise
                self.statistics.retries += 1
                tell_again(client.find_trace(), url, attempt, pause_s)
                time.sleep(pause_s)

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        """Run jobs; see `Fetcher.transfer`."""
        run = _Run(self._client.get(), self._limits, self.statistics, self._window.get())
        return run.iter_results(next_job)

    def close(self) -> None:
        """Close the connections of this process."""
        client = self._client.drop()
        if client is not None:
            client.close()
