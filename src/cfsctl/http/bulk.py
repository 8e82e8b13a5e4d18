"""Fetching with libcurl: many small bodies at once in one thread.

Importing this module imports `pycurl`, which is an optional package; `cfsctl.http.open_fetcher` does so
only where it is there.

Each transfer has a slot: an easy handle that is used again and again, so that its connection and its
options last. libcurl's multi interface drives all of them. A body reaches its sink in one piece unless
it is larger than `Limits.hold_bytes`; then it streams. For small objects the cost of a transfer is
libcurl's own work and a handful of Python calls, which is why this module counts them.

    next_job ──▶ slot (easy handle) ──▶ multi ──▶ body ──▶ sink ──▶ result
                   ▲                      │
                   └──── backlog ◀── failed for now
"""

from __future__ import annotations

import errno
import math
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast

import pycurl

from cfsctl.http.document import Document
from cfsctl.http.fetcher import (
    OK,
    THROTTLING_STATUSES,
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    RedirectError,
    Statistics,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
    find_ca_file,
)
from cfsctl.http.process import ProcessLocal
from cfsctl.http.retry import Backlog, compute_pause, raise_explained
from cfsctl.http.window import Window

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.http.fetcher import BodySink, Job, Limits, Options, Response

T = TypeVar("T")

_RECEIVE_BUFFER_BYTES: Final = 256 << 10
"""Read from a socket at a time; twice as fast as libcurl's 16 KiB for large bodies."""

_MAX_WAIT_S: Final = 1.0
"""Longest sleep in one go, so that signals are seen."""

_NO_SOCKET_WAIT_S: Final = 0.01
"""Sleep where libcurl works but has no socket to wait for."""

_FIRST_STREAMS: Final = 32
"""Requests in flight once the server turns out to speak HTTP/2."""

_HTTP_SCHEMES: Final = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

# Numbers of libcurl that not every version of pycurl names.
_E_HTTP2_STREAM: Final = 92

_ERROR_TYPES: Final[dict[int, type[TransferError]]] = {
    pycurl.E_UNSUPPORTED_PROTOCOL: RedirectError,
    pycurl.E_COULDNT_RESOLVE_PROXY: ConnectFailedError,
    pycurl.E_COULDNT_RESOLVE_HOST: ConnectFailedError,
    pycurl.E_COULDNT_CONNECT: ConnectFailedError,
    pycurl.E_HTTP2: ConnectFailedError,
    pycurl.E_PARTIAL_FILE: TruncatedBodyError,
    pycurl.E_OPERATION_TIMEDOUT: FetchTimeoutError,
    pycurl.E_TOO_MANY_REDIRECTS: RedirectError,
    pycurl.E_GOT_NOTHING: ConnectFailedError,
    pycurl.E_SEND_ERROR: ConnectFailedError,
    pycurl.E_RECV_ERROR: ConnectFailedError,
    _E_HTTP2_STREAM: ConnectFailedError,
}
"""What libcurl's errors are to us; `TransferError` for those that are not here."""

_SIZE_OR_STATUS_CODES: Final = frozenset({pycurl.E_HTTP_RETURNED_ERROR, pycurl.E_FILESIZE_EXCEEDED})
"""What libcurl sees in the header of an answer; the page that comes with an error may be large, too."""

_TLS_CODES: Final = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
"""CURLE_SSL_* and CURLE_PEER_FAILED_VERIFICATION."""


class _Slot:
    """One easy handle and the transfer on it.

    Attributes:
        job: What is being transferred; None when the slot is free.
        attempt: Which attempt this is, from 1.
        received: Bytes of the body so far.
        failure: What a sink raised, or what we found wrong, during the transfer.
    """

    __slots__ = (
        "_ca_file",
        "_chunks",
        "_hold",
        "_hold_bytes",
        "_limit",
        "_limits",
        "_options",
        "_scheme",
        "_sink",
        "attempt",
        "failure",
        "handle",
        "job",
        "received",
    )

    def __init__(self, limits: Limits, options: Options, ca_file: str | None) -> None:
        self._limits = limits
        self._options = options
        self._ca_file = ca_file
        self._scheme = ""
        self._limit: int | None = None
        self._hold_bytes = self._hold = limits.hold_bytes
        self._chunks: list[bytes] = []
        self._sink: BodySink[Any] | None = None
        self.job: Job[Any] | None = None
        self.attempt = 0
        self.received = 0
        self.failure: BaseException | None = None
        self.handle = self._make_handle()

    def _make_handle(self) -> Any:  # noqa: ANN401 - pycurl has no type information
        handle = pycurl.Curl()
        limits, options = self._limits, self._options
        handle.slot = self
        set_option = handle.setopt
        set_option(pycurl.WRITEFUNCTION, self._write)
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.BUFFERSIZE, _RECEIVE_BUFFER_BYTES)
        set_option(pycurl.USERAGENT, options.user_agent)
        set_option(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in options.headers.items()])
        # The body of an error must not reach a sink, and the status cannot be asked for in a callback.
        set_option(pycurl.FAILONERROR, 1)
        set_option(pycurl.FOLLOWLOCATION, 1)
        set_option(pycurl.MAXREDIRS, limits.redirects)
        set_option(pycurl.CONNECTTIMEOUT_MS, max(1, round(limits.connect_timeout_s * 1000)))
        # A stall is the slowest of slow transfers; libcurl has one clock for both.
        low_speed_time_s = min(limits.low_speed_time_s, limits.stall_timeout_s)
        set_option(pycurl.LOW_SPEED_LIMIT, limits.low_speed_bytes_per_s)
        set_option(pycurl.LOW_SPEED_TIME, max(1, math.ceil(low_speed_time_s)))
        return handle

    def _configure(self, scheme: str) -> None:
        """Set what depends on the scheme: where redirects may go, the proxy, and TLS."""
        self._scheme = scheme
        set_option = self.handle.setopt
        is_secure = scheme == "https"
        set_option(pycurl.PROTOCOLS, _HTTP_SCHEMES)
        set_option(pycurl.REDIR_PROTOCOLS, pycurl.PROTO_HTTPS if is_secure else _HTTP_SCHEMES)
        # The empty string keeps libcurl from looking at the environment.
        set_option(pycurl.PROXY, self._options.proxies.get(scheme, ""))
        set_option(pycurl.NOPROXY, self._options.no_proxy)
        if self._ca_file is not None:
            set_option(pycurl.CAINFO, self._ca_file)
        if self._options.client_certificate is not None:
            set_option(pycurl.SSLCERT, self._options.client_certificate)
            set_option(pycurl.SSLKEY, self._options.client_key or self._options.client_certificate)
        if is_secure:
            # Wait for the first connection to say whether it takes many requests at once.
            set_option(pycurl.PIPEWAIT, 1)

    def begin(self, job: Job[Any], attempt: int) -> None:
        """Make the handle ready for a transfer."""
        url = job.url
        handle = self.handle
        scheme = url[: url.index(":")]
        if scheme != self._scheme:
            self._configure(scheme)
        handle.setopt(pycurl.URL, url)
        limit = job.limit_bytes
        if limit != self._limit:
            self._limit = limit
            self._hold = self._hold_bytes if limit is None else min(limit, self._hold_bytes)
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit or 0)
        self.job = job
        self.attempt = attempt
        self.received = 0

    def _write(self, chunk: bytes) -> int | None:
        """Take bytes from libcurl; returning 0 makes it stop."""
        received = self.received = self.received + len(chunk)
        if received <= self._hold:
            self._chunks.append(chunk)
            return None
        try:
            self._stream(chunk)
        except BaseException as error:  # noqa: BLE001 - must not pass through libcurl; raised later
            self.failure = error
            return 0
        return None

    def _stream(self, chunk: bytes) -> None:
        """Take bytes of a body that is too large to be held."""
        job = cast("Job[Any]", self.job)
        if self._limit is not None and self.received > self._limit:
            raise TooLargeError(job.url, self._limit)
        sink = self._sink
        if sink is None:
            sink = self._sink = job.make_sink()
            for held in self._chunks:
                sink.write(held)
            self._chunks.clear()
        sink.write(chunk)

    def _accepts(self, status: int) -> bool:
        return status == OK

    def _find_status_error(self) -> HTTPStatusError | None:
        status: int = self.handle.getinfo(pycurl.RESPONSE_CODE)
        if self._accepts(status):
            return None
        retry_after_s: int = self.handle.getinfo(pycurl.RETRY_AFTER)
        return HTTPStatusError(cast("Job[Any]", self.job).url, status, float(retry_after_s) or None)

    def complete(self) -> Any:  # noqa: ANN401 - whatever the job's sink returns
        """Return what the sink makes of the whole body."""
        error = self._find_status_error()
        if error is not None:
            raise error
        if self._sink is None:
            sink = self._sink = cast("Job[Any]", self.job).make_sink()
            chunks = self._chunks
            if chunks:
                sink.write(chunks[0] if len(chunks) == 1 else b"".join(chunks))
        sink, self._sink = self._sink, None
        return sink.finish()

    def explain(self, code: int, message: str) -> BaseException:
        """Return the error for a failed transfer.

        Args:
            code: libcurl's CURLE_* number.
            message: What libcurl says about it.
        """
        if self.failure is not None:
            return self.failure
        url = cast("Job[Any]", self.job).url
        if code in _SIZE_OR_STATUS_CODES:
            return self._find_status_error() or TooLargeError(url, self._limit or 0)
        if code in _TLS_CODES:
            was_reset = self.handle.getinfo(pycurl.OS_ERRNO) == errno.ECONNRESET
            return (ConnectFailedError if was_reset else TLSError)(message, url)
        return _ERROR_TYPES.get(code, TransferError)(f"{message} (libcurl error {code})", url)

    def release(self) -> None:
        """Forget the transfer; whatever its sink holds is given up."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()
        self._chunks.clear()
        self.failure = None
        self.job = None


class _DocumentSlot(_Slot):
    """A slot whose jobs are documents: it sends their headers and keeps those of the answer."""

    __slots__ = ("_document", "_status")

    def __init__(self, limits: Limits, options: Options, ca_file: str | None) -> None:
        self._document: Document | None = None
        super().__init__(limits, options, ca_file)
        self._status = 0
        self.handle.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self.handle.setopt(pycurl.FAILONERROR, 0)  # would cost the connection

    def begin(self, job: Job[Any], attempt: int) -> None:
        super().begin(job, attempt)
        assert isinstance(job, Document)
        self._document = job
        headers = {**self._options.headers, **job.headers}
        self.handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])

    def _take_header(self, line: bytes) -> None:
        document = self._document
        if document is None:
            return
        text = line.decode("latin-1")
        name, colon, value = text.partition(":")
        if text.startswith("HTTP/"):
            document.answered.clear()  # those before came with a redirect
            status = text.split(" ", 2)[1:2]
            self._status = int(status[0]) if status and status[0].isdecimal() else 0
        elif colon:
            document.answered[name.strip().lower()] = value.strip()

    def _stream(self, chunk: bytes) -> None:
        if self._accepts(self._status):
            super()._stream(chunk)
        elif self.received > self._hold_bytes:
            raise HTTPStatusError(cast("Document", self._document).url, self._status)

    def _accepts(self, status: int) -> bool:
        document = self._document
        if document is None or not document.accepts(status):
            return False
        document.status = status
        return True


class _Line:
    """A multi handle with its slots: everything that one process uses for one run of jobs at a time."""

    def __init__(self, limits: Limits, make_slot: Callable[[], _Slot], statistics: Statistics) -> None:
        self._limits = limits
        self._make_slot = make_slot
        self._statistics = statistics
        self._window = Window(limits.connections, limits.connections_max)
        self._free: list[_Slot] = []
        self._active: dict[object, _Slot] = {}
        self._backlog: Backlog[tuple[Job[Any], int]] = Backlog()
        self._is_protocol_known = False
        self._is_busy = False
        self._multi = pycurl.CurlMulti()
        self._multi.setopt(pycurl.M_PIPELINING, pycurl.PIPE_MULTIPLEX)
        self._multi.setopt(pycurl.M_MAX_HOST_CONNECTIONS, limits.connections_max)
        self._multi.setopt(pycurl.M_MAXCONNECTS, limits.connections_max)

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Iterator[T]:
        """Run jobs; see `Fetcher.transfer`."""
        if self._is_busy:
            raise RuntimeError("a fetcher runs one set of transfers at a time")
        self._is_busy = True
        self._window.resume(time.monotonic())
        active = self._active
        try:
            while self._fill(next_job):
                self._multi.perform()
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
                self._window.count(len(done))
                for handle, code, message in failed:
                    self._settle(active[handle], active[handle].explain(code, message))
        finally:
            self._cancel()
            self._window.pause(time.monotonic())
            self._is_busy = False

    def _fill(self, next_job: Callable[[], Job[T] | None]) -> bool:
        """Start what may be started; return whether anything is in flight or will be."""
        active, backlog, size = self._active, self._backlog, self._window.size
        while len(active) < size:
            again = backlog.pop_due(time.monotonic()) if backlog else None
            if again is not None:
                self._start(*again)
                continue
            # What waits for its next attempt counts: a server in trouble is not asked for more.
            if len(active) + len(backlog) >= size:
                break
            job = next_job()
            if job is None:
                break
            self._start(job, 1)
        return bool(active or backlog)

    def _start(self, job: Job[Any], attempt: int) -> None:
        slot = self._free.pop() if self._free else self._make_slot()
        slot.begin(job, attempt)
        self._active[slot.handle] = slot
        self._multi.add_handle(slot.handle)
        self._statistics.requests += 1

    def _retire(self, slot: _Slot) -> None:
        """Take a slot out of what is in flight."""
        handle = slot.handle
        self._multi.remove_handle(handle)
        del self._active[handle]
        self._statistics.received_bytes += slot.received
        slot.release()
        self._free.append(slot)
        if not self._is_protocol_known:
            self._is_protocol_known = True
            if handle.getinfo(pycurl.INFO_HTTP_VERSION) == pycurl.CURL_HTTP_VERSION_2_0:
                self._window.widen(_FIRST_STREAMS, self._limits.streams_max)

    def _settle(self, slot: _Slot, error: BaseException) -> None:
        """Put a failed transfer into the backlog, or raise."""
        job, attempt = cast("Job[Any]", slot.job), slot.attempt
        self._retire(slot)
        if not isinstance(error, TransferError):
            raise error
        now_s = time.monotonic()
        if isinstance(error, HTTPStatusError) and error.status in THROTTLING_STATUSES:
            self._window.throttle(now_s)
        pause_s = compute_pause(error, attempt, self._limits)
        if pause_s is None:
            raise_explained(job, error)
        self._statistics.retries += 1
        self._backlog.add(now_s + pause_s, (job, attempt + 1))

    def _wait(self) -> None:
        """Sleep until a socket is ready, libcurl has a timer, or something is to be tried again."""
        began_s = time.monotonic()
        timeout_s = _MAX_WAIT_S
        if self._backlog:
            timeout_s = min(timeout_s, self._backlog.compute_wait(began_s) or 0.0)
        if not self._active:
            time.sleep(timeout_s)
            return
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
        self._backlog = Backlog()

    def close(self) -> None:
        """Close all connections."""
        for slot in self._free:
            slot.handle.close()
        self._free.clear()
        self._multi.close()


class CurlFetcher:
    """A `Fetcher` on libcurl."""

    def __init__(self, limits: Limits, options: Options) -> None:
        """Keep the settings; nothing is opened before it is needed."""
        self._limits = limits
        self._options = options
        self._statistics = ProcessLocal(Statistics)
        self._bulk = ProcessLocal(lambda: self._make_line(_Slot))
        # Documents have a line of their own, so that one can be fetched while a transfer goes on.
        self._control = ProcessLocal(lambda: self._make_line(_DocumentSlot))

    @property
    def statistics(self) -> Statistics:
        """Return the counters of this process."""
        return self._statistics.get()

    def _make_line(self, slot_type: type[_Slot]) -> _Line:
        ca_file = find_ca_file(self._options)
        return _Line(self._limits, lambda: slot_type(self._limits, self._options, ca_file), self.statistics)

    def get(self, url: str, *, limit_bytes: int, headers: Mapping[str, str] | None = None) -> Response:
        """Return a whole document; see `Fetcher.get`."""
        document = Document(url, limit_bytes, headers)
        jobs = iter([document])
        for body in self._control.get().transfer(lambda: next(jobs, None)):
            return document.to_response(body)
        raise AssertionError("unreachable: a job gives a result or an error")

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Iterator[T]:
        """Run jobs; see `Fetcher.transfer`."""
        return self._bulk.get().transfer(next_job)

    def close(self) -> None:
        """Close the connections of this process."""
        for line in (self._bulk.drop(), self._control.drop()):
            if line is not None:
                line.close()
