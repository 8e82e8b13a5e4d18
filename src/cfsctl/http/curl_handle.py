"""One transfer on one libcurl easy handle.

The handle is reused, so that its connection and its options last. The Python calls for a
small object are counted here: the URL is set, the body is appended to a list, and the sink gets it.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any, Final, cast

import pycurl

from cfsctl.errors import CfsError
from cfsctl.http.answer import (
    PARTIAL_CONTENT,
    check_rest,
    find_redirect,
    find_status,
    mark_of,
    parse_head,
    status_error,
)
from cfsctl.http.attempt import Attempt, Partial, Redirected
from cfsctl.http.curl_errors import translate
from cfsctl.http.errors import (
    OK,
    ConnectFailedError,
    FetchTimeoutError,
    MalformedAnswerError,
    TooLargeError,
    TransferError,
)
from cfsctl.http.proxies import choose_proxy
from cfsctl.http.request import find_authorization, is_named, select_headers
from cfsctl.http.retry import doubt
from cfsctl.http.trace import tell_success

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.http.document import Document
    from cfsctl.http.fetcher import BodySink, Job, Limits, Options
    from cfsctl.http.trace import Exchange, Trace

_RECEIVE_BUFFER_BYTES: Final = 256 << 10
"""Read from a socket at a time; twice as fast as libcurl's 16 KiB for large bodies."""

_HTTP_SCHEMES: Final = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

_MAX_HEAD_LINES: Final = 5000
"""Of one answer, interim answers and trailers included; libcurl itself counts since 8.4 only."""

_SIZE_OR_STATUS_CODES: Final = frozenset({pycurl.E_HTTP_RETURNED_ERROR, pycurl.E_FILESIZE_EXCEEDED})
"""What libcurl sees in the header of an answer; the page that comes with an error may be large, too."""


def _set_headers(handle: Any, headers: Mapping[str, str]) -> None:  # noqa: ANN401 - pycurl is untyped
    """Send these in place of those that were sent before."""
    handle.unsetopt(pycurl.HTTPHEADER)  # pycurl takes an empty list for "as before"
    handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])


class Slot:
    """One easy handle and the transfer on it.

    Attributes:
        job: What is being transferred; None when the slot is free.
        attempt: What was asked for; meaningless when the slot is free.
        began_s: When it was asked for, before all redirects.
        exchange: What is told about it, or None.
        lines: Heads of its answer, and trailers.
        offset: Bytes of the body that an earlier attempt has passed on.
        received: Bytes of the body that were passed on, those included, or refused.
        failure: What a sink raised, or what we found wrong, during the transfer.
    """

    __slots__ = (
        "_asked",
        "_ca_file",
        "_chunks",
        "_has_certificate",
        "_is_authorized",
        "_is_away",
        "_limit",
        "_limits",
        "_options",
        "_place",
        "_room",
        "_sink",
        "attempt",
        "began_s",
        "exchange",
        "failure",
        "handle",
        "job",
        "lines",
        "offset",
        "received",
    )

    def __init__(self, limits: Limits, options: Options, ca_file: str | None) -> None:
        """Make a handle with all the options that do not change."""
        self._limits = limits
        self._options = options
        self._ca_file = ca_file
        self._place = self._asked = ""
        self._is_away = self._is_authorized = self._has_certificate = False
        self._limit: int | None = None
        self._room = 0
        self._chunks: list[bytes] = []
        self._sink: BodySink[Any] | None = None
        self.job: Job[Any] | None = None
        self.attempt: Attempt | None = None
        self.began_s = 0.0
        self.exchange: Exchange | None = None
        self.lines: list[bytes] = []
        self.offset = 0
        self.received = 0
        self.failure: BaseException | None = None
        self.handle = self._make_handle()

    def _make_handle(self) -> Any:  # noqa: ANN401 - pycurl has no type information
        handle = pycurl.Curl()
        limits, options = self._limits, self._options
        handle.slot = self
        set_option = handle.setopt
        set_option(pycurl.WRITEFUNCTION, self._write)
        set_option(pycurl.HEADERFUNCTION, self.lines.append)  # cheap; few answers need more
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.BUFFERSIZE, _RECEIVE_BUFFER_BYTES)
        set_option(pycurl.USERAGENT, options.user_agent)
        # The body of an error must not reach a sink, and the status cannot be asked for in a callback.
        set_option(pycurl.FAILONERROR, 1)
        # Where a redirect may lead, and what goes along, is decided in one place for all transports.
        set_option(pycurl.FOLLOWLOCATION, 0)
        set_option(pycurl.CONNECTTIMEOUT_MS, max(1, round(limits.connect_timeout_s * 1000)))
        # A stall is the slowest of slow transfers; libcurl has one clock for both.
        low_speed_time_s = min(limits.low_speed_time_s, limits.stall_timeout_s)
        set_option(pycurl.LOW_SPEED_LIMIT, limits.low_speed_bytes_per_s)
        set_option(pycurl.LOW_SPEED_TIME, max(1, math.ceil(low_speed_time_s)))
        return handle

    def _configure(self, place: str, is_named_by_user: bool) -> Any:  # noqa: ANN401, FBT001 - see above; one call
        """Set what depends on the server: the proxy, and TLS.

        Args:
            place: The URL up to its path.
            is_named_by_user: Whether our certificate is for it.

        Returns:
            The handle: another one if the old one would show our certificate, which stays with it.
        """
        if self._has_certificate and not is_named_by_user:
            self.handle.close()
            self.handle = self._make_handle()
            self._limit, self._has_certificate = None, False
        set_option = self.handle.setopt
        is_secure = place.lower().startswith("https:")
        set_option(pycurl.PROTOCOLS, _HTTP_SCHEMES)
        # Empty strings keep libcurl from looking at the environment.
        set_option(pycurl.PROXY, choose_proxy(self._options, place) or "")
        set_option(pycurl.NOPROXY, "")
        self._place = place
        if self._ca_file is not None:
            set_option(pycurl.CAINFO, self._ca_file)
        if not self._options.verifies_tls:
            set_option(pycurl.SSL_VERIFYPEER, 0)
            set_option(pycurl.SSL_VERIFYHOST, 0)
        if self._options.client_certificate is not None and is_named_by_user:
            set_option(pycurl.SSLCERT, self._options.client_certificate)
            set_option(pycurl.SSLKEY, self._options.client_key or self._options.client_certificate)
            self._has_certificate = True
        if is_secure:
            # Wait for the first connection to say whether it takes many requests at once.
            set_option(pycurl.PIPEWAIT, 1)
        return self.handle

    def begin(self, attempt: Attempt, trace: Trace | None = None) -> None:
        """Make the handle ready for a transfer, or for the rest of one.

        Args:
            attempt: What to ask for.
            trace: To tell about it, or None.

        Raises:
            InvalidURLError: The configured proxy is not a valid URL.
        """
        job = attempt.job
        url = self._asked = attempt.url or job.url
        handle = self.handle
        end = url.find("/", 9)
        place = url if end < 0 else url[:end]
        is_new = place != self._place
        if is_new:
            handle = self._configure(place, is_named(self._options, url, job.url))
        is_away = attempt.url is not None
        authorization = find_authorization(url, job)
        if is_away or self._is_away or is_new or authorization or self._is_authorized:
            self._is_away = is_away
            self._is_authorized = bool(authorization)
            _set_headers(handle, select_headers(self._options, url, job.url) | authorization)
        handle.setopt(pycurl.URL, url)
        limit = job.limit_bytes
        if limit != self._limit:
            self._limit = limit
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit or 0)
        self._room = self._limits.hold_bytes if limit is None else min(limit, self._limits.hold_bytes)
        self.job = job
        self.attempt = attempt
        self.began_s = time.monotonic() if attempt.began_s is None else attempt.began_s
        self.received = 0
        if attempt.partial is not None:
            self._sink, self.received, _ = attempt.partial
            self.offset = self.received
            # RESUME_FROM would have libcurl look for the rest in redirects, too.
            handle.setopt(pycurl.RANGE, f"{self.offset}-")
        if trace is not None:
            proxy = choose_proxy(self._options, place)
            self.exchange = trace.begin(self._asked, job, self.offset, proxy)

    def break_off(self) -> Partial | None:
        """Return what has arrived of a large body, for the next attempt to go on from; the sink is its own.

        Raises:
            OSError: The sink cannot keep it.
        """
        if self._sink is None or self.failure is not None:
            return None
        if self._chunks:
            try:
                self._check_answer()
                self._sink.write(self._take_held())
            except CfsError:
                return None
        return self.keep()

    def keep(self) -> Partial | None:
        """Return what had arrived of a body before this answer, or in pieces that were passed on."""
        sink, self._sink = self._sink, None
        if sink is None:
            return None
        before = cast("Attempt", self.attempt).partial
        return Partial(sink, self.received, before.mark if before else mark_of(parse_head(self.lines)))

    def find_delay(self, now_s: float) -> TransferError | None:
        """Return what to end the transfer with if it has taken, or brought along, too much."""
        limits, elapsed_s = self._limits, now_s - self.began_s
        url = cast("Job[Any]", self.job).url
        if len(self.lines) > _MAX_HEAD_LINES:
            return MalformedAnswerError("the headers of the response are too large", url)
        is_body_there = self._chunks or self.received > self.offset
        if elapsed_s > (limits.exchange_timeout_s if is_body_there else limits.answer_timeout_s):
            return FetchTimeoutError(f"not complete after {elapsed_s:.0f} s", url)
        return None

    def _write(self, chunk: bytes) -> int | None:
        """Take bytes from libcurl; returning 0 makes it stop."""
        self._chunks.append(chunk)
        room = self._room = self._room - len(chunk)
        if room >= 0:
            return None
        try:
            self._stream()
        except BaseException as error:  # noqa: BLE001 - must not pass through libcurl; raised later
            self.failure = error
            return 0
        return None

    def _stream(self) -> None:
        """Pass on what is held of a body that is too large to be held as a whole."""
        job, limit = cast("Job[Any]", self.job), self._limit
        if self.received == self.offset:
            self._check_answer()
        data = self._take_held()
        if limit is not None and self.received > limit:
            raise TooLargeError(job.url, limit)
        if self._sink is None:
            self._sink = job.make_sink()
        self._sink.write(data)
        hold = self._limits.hold_bytes
        self._room = hold if limit is None else min(limit - self.received, hold)

    def _check_answer(self) -> None:
        """Check, before anything is passed on, that what arrives is what was asked for.

        Raises:
            TransferError: It is something else, or a `Redirected`.
        """
        error = self._find_status_error(find_status(self.lines))
        if error is not None:
            raise error

    def _take_held(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.received += len(data)
        return data

    def _accepts(self, status: int) -> bool:
        return status == (PARTIAL_CONTENT if self.offset else OK)

    def _find_status_error(self, status: int) -> TransferError | None:
        url = cast("Job[Any]", self.job).url
        if self._accepts(status) and not self.offset:
            return None
        head = parse_head(self.lines)
        try:
            target = find_redirect(head, self._asked, url)
            if target is not None:
                return Redirected(target, url)
            if self.offset:
                partial = cast("Attempt", self.attempt).partial
                check_rest(head, self.offset, partial.mark if partial else None, url, self._asked)
                return None
        except TransferError as error:
            return error
        return status_error(head, url, self._asked)

    def complete(self) -> Any:  # noqa: ANN401 - whatever the job's sink returns
        """Return what the sink makes of the whole body.

        Raises:
            ResumeError: It refuses a body that has come in two pieces.
        """
        if self.received == self.offset:
            error = self._find_status_error(self.handle.getinfo(pycurl.RESPONSE_CODE))
            if error is not None:
                raise error
            # libcurl takes a connection that ends in the head for the end of the head.
            if b"\r\n" not in self.lines and b"\n" not in self.lines:
                url = cast("Job[Any]", self.job).url
                raise ConnectFailedError("the connection ended within the headers of the response", url)
        sink = self._sink
        if sink is None:
            sink = self._sink = cast("Job[Any]", self.job).make_sink()
        try:
            if self._chunks:
                sink.write(self._take_held())
            self._sink = None
            if self.exchange is not None:
                size = self.received - self.offset
                tell_success(self.exchange, find_status(self.lines), size, self.lines)
            return sink.finish()
        except CfsError as refusal:
            if not self.offset:
                raise
            raise doubt(refusal, cast("Job[Any]", self.job).url) from refusal

    def explain(self, code: int, message: str) -> BaseException:
        """Return the error for a failed transfer.

        Args:
            code: libcurl's CURLE_* number.
            message: What libcurl says about it.
        """
        url = cast("Job[Any]", self.job).url
        failure = self.failure
        if failure is not None:
            is_refused = isinstance(failure, CfsError) and not isinstance(failure, TransferError)
            return doubt(cast("CfsError", failure), url) if self.offset and is_refused else failure
        if code in _SIZE_OR_STATUS_CODES:
            error = self._find_status_error(self.handle.getinfo(pycurl.RESPONSE_CODE))
            return error or TooLargeError(url, self._limit or 0)
        return translate(self.handle, code, message, url)

    def release(self) -> None:
        """Drop the transfer and discard the contents of its sink."""
        sink, self._sink = self._sink, None
        if sink is not None:
            sink.abort()
        self._chunks.clear()
        self.lines.clear()
        self.failure = None
        self.job = self.attempt = self.exchange = None
        if self.offset:
            self.offset = 0
            self.handle.unsetopt(pycurl.RANGE)


class DocumentSlot(Slot):
    """A slot whose jobs are documents: it sends their headers and keeps those of the answer."""

    __slots__ = ()

    def _make_handle(self) -> Any:  # noqa: ANN401 - see above
        """Return a handle that also takes the pages of errors: not to would cost the connection."""
        handle = super()._make_handle()
        handle.setopt(pycurl.FAILONERROR, 0)
        return handle

    def begin(self, attempt: Attempt, trace: Trace | None = None) -> None:
        """Make the handle ready for a document."""
        super().begin(attempt, trace)
        document = cast("Document", attempt.job)
        chosen = select_headers(self._options, self._asked, document.url)
        chosen |= document.headers | find_authorization(self._asked, document)
        _set_headers(self.handle, chosen)

    def break_off(self) -> Partial | None:
        """Return None: documents may change from one moment to the next, so they come whole."""
        return None

    def complete(self) -> Any:  # noqa: ANN401 - whatever the job's sink returns
        """Return what the sink makes of the whole body, and note the head of the answer."""
        document = cast("Document", self.job)
        head = parse_head(self.lines)
        body = super().complete()
        document.answer(head.status, head.fields)
        return body

    def _accepts(self, status: int) -> bool:
        return cast("Document", self.job).accepts(status)
