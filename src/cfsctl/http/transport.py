"""Fetching with `requests`: works everywhere, and is slower than `bulk`.

This is the only module that imports `requests`. Its sessions are not used: they cost more than a small
object does, and follow redirects and environment variables by rules that are not ours.

Many transfers at once need a thread for each connection. The threads only read; sinks are called in the
thread that runs the transfer, which also decides what is asked for:

    next_job ──▶ tasks ──▶ threads ──▶ events (bounded) ──▶ sinks ──▶ results
                   ▲                      │
                   └──── backlog ◀── failed for now
"""

from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeVar, cast
from urllib.parse import unquote, urljoin

import requests
import requests.adapters
import requests.auth
import urllib3.exceptions

from cfsctl.http.document import Document
from cfsctl.http.fetcher import (
    OK,
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    InvalidURLError,
    RedirectError,
    Statistics,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
    check_url,
    find_ca_file,
    origin_of,
    split_credentials,
)
from cfsctl.http.process import ProcessLocal
from cfsctl.http.retry import Backlog, compute_pause, parse_retry_after, raise_explained

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.http.fetcher import BodySink, Job, Limits, Options, Response

T = TypeVar("T")

_READ_BYTES: Final = 64 << 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SENSITIVE_HEADERS: Final = frozenset({"authorization", "cookie"})
"""Header fields that are meant for one server."""

_POLL_S: Final = 0.2
"""How often a thread that waits looks whether it still should."""

_JOIN_TIMEOUT_S: Final = 1.0
"""Time to wait for threads after a cancellation; one that is stuck in a read ends by its timeout."""


class _Client:
    """Sends requests and reads bodies, within limits; no retries. Used by several threads."""

    def __init__(self, limits: Limits, options: Options, statistics: Statistics) -> None:
        self._limits = limits
        self._options = options
        self._statistics = statistics
        self._ca_file = find_ca_file(options)
        self._templates: dict[object, requests.PreparedRequest] = {}
        self._adapter = requests.adapters.HTTPAdapter(pool_maxsize=limits.connections, max_retries=0)
        self._lock = threading.Lock()

    def close(self) -> None:
        self._adapter.close()

    def open(self, job: Job[Any]) -> requests.Response:
        """Send the request and follow redirects; return an answer whose status is one the job wants."""
        url = job.url
        document = job if isinstance(job, Document) else None
        for _ in range(self._limits.redirects + 1):
            response = self._send(url, job, document.headers if document else None)
            target = response.headers.get("location") if response.status_code in _REDIRECTS else None
            if target is None:
                self._check_status(response, job, document)
                return response
            response.close()
            url = _follow(url, target, job)
        raise RedirectError(f"more than {self._limits.redirects} redirects", job.url)

    def _check_status(self, response: requests.Response, job: Job[Any], document: Document | None) -> None:
        status = response.status_code
        if document is not None and document.accepts(status):
            document.status = status
            document.answered.update((name.lower(), value) for name, value in response.headers.items())
        elif status != OK:
            response.close()
            raise HTTPStatusError(job.url, status, parse_retry_after(response.headers.get("retry-after")))

    def _send(self, url: str, job: Job[Any], headers: Mapping[str, str] | None) -> requests.Response:
        bare, user, password = split_credentials(url)
        request = self._find_template(bare, job.url, user, password).copy()
        request.url = bare
        if headers:
            request.headers.update(headers)
        proxy = self._find_proxy(bare)
        if proxy is not None and bare.startswith("http:"):
            request.headers.update(self._adapter.proxy_headers(proxy))
        limits = self._limits
        with self._lock:
            self._statistics.requests += 1
        try:
            return self._adapter.send(
                request,
                stream=True,
                timeout=(limits.connect_timeout_s, limits.stall_timeout_s),
                verify=self._ca_file or True,
                cert=self._find_certificate(),
                proxies={} if proxy is None else {"http": proxy, "https": proxy},
            )
        except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
            raise _translate(error, job.url) from error

    def _find_template(
        self, bare: str, first: str, user: str | None, password: str | None
    ) -> requests.PreparedRequest:
        """Return a request with the headers for this server; preparing one costs as much as sending it."""
        origin = origin_of(bare)
        home = origin_of(first)
        key = (origin, origin == home, user, password)
        template = self._templates.get(key)
        if template is None:
            headers = {"User-Agent": self._options.user_agent, "Accept-Encoding": "identity", "Accept": "*/*"}
            headers |= {
                name: value
                for name, value in self._options.headers.items()
                if origin == home or name.lower() not in _SENSITIVE_HEADERS
            }
            request = requests.Request("GET", bare, headers=headers)
            if user is not None:
                request.auth = requests.auth.HTTPBasicAuth(unquote(user), unquote(password or ""))
            template = self._templates[key] = request.prepare()
        return template

    def _find_proxy(self, url: str) -> str | None:
        scheme, host, _ = origin_of(url)
        proxy = self._options.proxies.get(scheme)
        for entry in self._options.no_proxy.split(","):
            domain = entry.strip().lower().lstrip(".")
            if domain == "*" or (domain and (host == domain or host.endswith("." + domain))):
                return None
        return proxy

    def _find_certificate(self) -> str | tuple[str, str] | None:
        certificate, key = self._options.client_certificate, self._options.client_key
        return certificate if certificate is None or key is None else (certificate, key)

    def iter_body(self, response: requests.Response, job: Job[Any]) -> Iterator[bytes]:
        """Yield the body as it comes, counted, timed and compared with the length that was announced."""
        expected = _find_length(response)
        limit = job.limit_bytes
        if limit is not None and expected is not None and expected > limit:
            raise TooLargeError(job.url, limit)
        received = 0
        pace = _Pace(self._limits)
        try:
            for chunk in _iter_raw(response):
                received += len(chunk)
                if limit is not None and received > limit:
                    raise TooLargeError(job.url, limit)
                pace.check(received, job.url)
                yield chunk
        except urllib3.exceptions.HTTPError as error:
            raise _translate(error, job.url) from error
        finally:
            with self._lock:
                self._statistics.received_bytes += received
        if expected is not None and received < expected:
            raise TruncatedBodyError(f"the body ended after {received} of {expected} bytes", job.url)


class _Pace:
    """Refuses a body that comes too slowly for too long."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._since_s = time.monotonic()
        self._received = 0

    def check(self, received: int, url: str) -> None:
        limits = self._limits
        now_s = time.monotonic()
        elapsed_s = now_s - self._since_s
        if elapsed_s < limits.low_speed_time_s:
            return
        if received - self._received < limits.low_speed_bytes_per_s * elapsed_s:
            raise FetchTimeoutError(
                f"less than {limits.low_speed_bytes_per_s} bytes a second for {elapsed_s:.0f} s", url
            )
        self._since_s, self._received = now_s, received


def _iter_raw(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    # read1 returns what there is; only old versions of urllib3 lack it, and there a drip goes unnoticed.
    read = getattr(raw, "read1", raw.read)
    while chunk := cast("bytes", read(_READ_BYTES, decode_content=False)):
        yield chunk


def _find_length(response: requests.Response) -> int | None:
    text = response.headers.get("content-length", "")
    if not (text.isascii() and text.isdigit()) or "transfer-encoding" in response.headers:
        return None
    return int(text)


def _follow(url: str, target: str, job: Job[Any]) -> str:
    """Return where a redirect leads; user name and password stay with the server they were given for."""
    bare, _, _ = split_credentials(url)
    joined = urljoin(bare, target)
    try:
        check_url(joined)
    except InvalidURLError as error:
        raise RedirectError(f"refused to follow a redirect: {error}", job.url) from error
    if bare.startswith("https:") and not joined.startswith("https:"):
        raise RedirectError(f"refused to follow a redirect from https to {joined}", job.url)
    if origin_of(joined) == origin_of(bare) and bare != url:
        authority = url.partition("://")[2].partition("/")[0].rpartition("@")[0]
        scheme, separator, rest = joined.partition("://")
        return f"{scheme}{separator}{authority}@{rest}"
    return joined


def _translate(error: Exception, url: str) -> TransferError:
    """Return our error for one of `requests` or urllib3."""
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return FetchTimeoutError(_describe(error), url)
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return TLSError(_describe(error), url)
    if isinstance(error, urllib3.exceptions.IncompleteRead):
        return TruncatedBodyError(_describe(error), url)
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError):
        return ConnectFailedError(_describe(error), url)
    return TransferError(_describe(error), url)


def _describe(error: BaseException) -> str:
    """Return what happened without the layers of wrapping around it."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
        if not isinstance(inner, BaseException):
            return f"{type(error).__name__}: {error}"
        error = inner


class _Attempt:
    """A transfer under way.

    Attributes:
        job: What is transferred.
        number: Which attempt this is, from 1.
        sink: Where its body goes, once it has begun to stream; only the calling thread looks at it.
    """

    __slots__ = ("job", "number", "sink")

    def __init__(self, job: Job[Any], number: int) -> None:
        self.job = job
        self.number = number
        self.sink: BodySink[Any] | None = None


class _Event(NamedTuple):
    """What a thread has to say about an attempt: bytes, the end, or a failure."""

    attempt: _Attempt
    data: bytes
    is_last: bool = False
    failure: BaseException | None = None


class _Run:
    """One run of jobs on threads."""

    def __init__(self, client: _Client, limits: Limits, statistics: Statistics) -> None:
        self._client = client
        self._limits = limits
        self._statistics = statistics
        self._tasks: queue.SimpleQueue[_Attempt | None] = queue.SimpleQueue()
        self._events: queue.Queue[_Event] = queue.Queue(maxsize=2 * limits.connections)
        self._stopped = threading.Event()
        self._threads: list[threading.Thread] = []
        self._active: set[_Attempt] = set()
        self._backlog: Backlog[_Attempt] = Backlog()

    def iter_results(self, next_job: Callable[[], Job[T] | None]) -> Iterator[T]:
        try:
            while self._fill(next_job):
                event = self._await_event()
                if event is None:
                    continue
                if event.failure is not None:
                    self._settle(event.attempt, event.failure)
                    continue
                self._feed(event)
                if event.is_last:
                    self._active.discard(event.attempt)
                    sink, event.attempt.sink = event.attempt.sink, None
                    yield cast("BodySink[T]", sink).finish()
        finally:
            self._stop()

    def _fill(self, next_job: Callable[[], Job[T] | None]) -> bool:
        """Hand out what may be started; return whether anything is in flight or will be."""
        active, backlog = self._active, self._backlog
        while len(active) < self._limits.connections:
            again = backlog.pop_due(time.monotonic())
            if again is None:
                if len(active) + len(backlog) >= self._limits.connections:
                    break
                job = next_job()
                if job is None:
                    break
                again = _Attempt(job, 1)
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
        wait_s = self._backlog.compute_wait(time.monotonic())
        if not self._active:
            time.sleep(wait_s or 0.0)
            return None
        try:
            return self._events.get(timeout=wait_s)
        except queue.Empty:
            return None

    def _feed(self, event: _Event) -> None:
        attempt = event.attempt
        if attempt.sink is None:
            attempt.sink = attempt.job.make_sink()
        if event.data:
            attempt.sink.write(event.data)

    def _settle(self, attempt: _Attempt, error: BaseException) -> None:
        """Put a failed attempt into the backlog, or raise."""
        self._active.discard(attempt)
        _abort(attempt)
        if not isinstance(error, TransferError):
            raise error
        pause_s = compute_pause(error, attempt.number, self._limits)
        if pause_s is None:
            raise_explained(attempt.job, error)
        self._statistics.retries += 1
        self._backlog.add(time.monotonic() + pause_s, _Attempt(attempt.job, attempt.number + 1))

    def _stop(self) -> None:
        """End the threads; what they are still reading is of no use to anyone."""
        self._stopped.set()
        for attempt in self._active:
            _abort(attempt)
        for _ in self._threads:
            self._tasks.put(None)
        deadline_s = time.monotonic() + _JOIN_TIMEOUT_S
        for thread in self._threads:
            thread.join(max(0.0, deadline_s - time.monotonic()))

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
        with self._client.open(job) as response:
            for chunk in self._client.iter_body(response, job):
                if self._stopped.is_set():
                    return
                held.append(chunk)
                size += len(chunk)
                if size > self._limits.hold_bytes:
                    self._put(_Event(attempt, b"".join(held)))
                    held.clear()
                    # From here on it streams.
                    size = self._limits.hold_bytes
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


class RequestsFetcher:
    """A `Fetcher` on `requests`."""

    def __init__(self, limits: Limits, options: Options) -> None:
        """Keep the settings; nothing is opened before it is needed."""
        self._limits = limits
        self._options = options
        self._statistics = ProcessLocal(Statistics)
        self._client = ProcessLocal(lambda: _Client(limits, options, self.statistics))

    @property
    def statistics(self) -> Statistics:
        """Return the counters of this process."""
        return self._statistics.get()

    def get(self, url: str, *, limit_bytes: int, headers: Mapping[str, str] | None = None) -> Response:
        """Return a whole document; see `Fetcher.get`."""
        document = Document(url, limit_bytes, headers)
        client = self._client.get()
        attempt = 0
        while True:
            attempt += 1
            try:
                with client.open(document) as response:
                    return document.to_response(b"".join(client.iter_body(response, document)))
            except TransferError as error:
                pause_s = compute_pause(error, attempt, self._limits)
                if pause_s is None:
                    raise
                self.statistics.retries += 1
                time.sleep(pause_s)

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Iterator[T]:
        """Run jobs; see `Fetcher.transfer`."""
        return _Run(self._client.get(), self._limits, self.statistics).iter_results(next_job)

    def close(self) -> None:
        """Close the connections of this process."""
        client = self._client.drop()
        if client is not None:
            client.close()
