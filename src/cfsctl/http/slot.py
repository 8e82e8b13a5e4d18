"""One transfer on one libcurl easy handle.

The handle is used again and again, so that its connection and its options last. The Python calls for a
small object are counted here: the URL is set, the body is appended to a list, and the sink gets it.
"""

from __future__ import annotations

import errno
import math
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

import pycurl

from cfsctl.errors import CfsError
from cfsctl.http.document import Document
from cfsctl.http.fetcher import (
    OK,
    ConnectFailedError,
    FetchTimeoutError,
    HTTPStatusError,
    RedirectError,
    ResumeError,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
)
from cfsctl.http.retry import doubt

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.http.fetcher import BodySink, Job, Limits, Options

_RECEIVE_BUFFER_BYTES: Final = 256 << 10
"""Read from a socket at a time; twice as fast as libcurl's 16 KiB for large bodies."""

_HTTP_SCHEMES: Final = pycurl.PROTO_HTTP | pycurl.PROTO_HTTPS

# Numbers of libcurl that not every version of pycurl names.
_E_HTTP2_STREAM: Final = 92
_E_RANGE: Final = 33

_PARTIAL_CONTENT: Final = 206
_RANGE_NOT_SATISFIABLE: Final = 416

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
    _E_RANGE: ResumeError,
}
"""What libcurl's errors are to us; `TransferError` for those that are not here."""

_SIZE_OR_STATUS_CODES: Final = frozenset({pycurl.E_HTTP_RETURNED_ERROR, pycurl.E_FILESIZE_EXCEEDED})
"""What libcurl sees in the header of an answer; the page that comes with an error may be large, too."""

_TLS_CODES: Final = frozenset({35, 51, 53, 54, 58, 59, 60, 64, 66, 77, 80, 82, 83, 90, 91})
"""CURLE_SSL_* and CURLE_PEER_FAILED_VERIFICATION."""


def _set_headers(handle: Any, headers: Mapping[str, str]) -> None:  # noqa: ANN401 - pycurl is untyped
    """Send these in place of those that were sent before."""
    handle.unsetopt(pycurl.HTTPHEADER)  # pycurl takes an empty list for "as before"
    handle.setopt(pycurl.HTTPHEADER, [f"{name}: {value}" for name, value in headers.items()])


class Partial(NamedTuple):
    """The first part of a body that is too large to be fetched again for nothing.

    Attributes:
        sink: Has taken it.
        received: Its size in bytes.
    """

    sink: BodySink[Any]
    received: int


class Slot:
    """One easy handle and the transfer on it.

    Attributes:
        job: What is being transferred; None when the slot is free.
        attempt: Which attempt this is, from 1.
        offset: Bytes of the body that an earlier attempt has passed on.
        received: Bytes of the body that were passed on, those included, or refused.
        failure: What a sink raised, or what we found wrong, during the transfer.
    """

    __slots__ = (
        "_ca_file",
        "_chunks",
        "_limit",
        "_limits",
        "_options",
        "_room",
        "_scheme",
        "_sink",
        "attempt",
        "failure",
        "handle",
        "job",
        "offset",
        "received",
    )

    def __init__(self, limits: Limits, options: Options, ca_file: str | None) -> None:
        """Make a handle with all the options that do not change."""
        self._limits = limits
        self._options = options
        self._ca_file = ca_file
        self._scheme = ""
        self._limit: int | None = None
        self._room = 0
        self._chunks: list[bytes] = []
        self._sink: BodySink[Any] | None = None
        self.job: Job[Any] | None = None
        self.attempt = 0
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
        set_option(pycurl.NOSIGNAL, 1)
        set_option(pycurl.BUFFERSIZE, _RECEIVE_BUFFER_BYTES)
        set_option(pycurl.USERAGENT, options.user_agent)
        _set_headers(handle, options.headers)
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

    def begin(self, job: Job[Any], attempt: int, partial: Partial | None = None) -> None:
        """Make the handle ready for a transfer, or for the rest of one."""
        url = job.url
        handle = self.handle
        scheme = url[: url.index(":")].lower()
        if scheme != self._scheme:
            self._configure(scheme)
        handle.setopt(pycurl.URL, url)
        limit = job.limit_bytes
        if limit != self._limit:
            self._limit = limit
            handle.setopt(pycurl.MAXFILESIZE_LARGE, limit or 0)
        self._room = self._limits.hold_bytes if limit is None else min(limit, self._limits.hold_bytes)
        self.job = job
        self.attempt = attempt
        self.received = 0
        if partial is not None:
            self._sink, self.received = partial
            self.offset = self.received
            handle.setopt(pycurl.RESUME_FROM_LARGE, self.offset)

    def break_off(self) -> Partial | None:
        """Return what has arrived of a large body, for the next attempt to go on from; the sink is its own.

        Raises:
            OSError: The sink cannot keep it.
        """
        sink = self._sink
        if sink is None or self.failure is not None:
            return None
        if self._chunks:
            try:
                sink.write(self._take_held())
            except CfsError:
                return None
        self._sink = None
        return Partial(sink, self.received)

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
        data = self._take_held()
        if limit is not None and self.received > limit:
            raise TooLargeError(job.url, limit)
        if self._sink is None:
            self._sink = job.make_sink()
        self._sink.write(data)
        hold = self._limits.hold_bytes
        self._room = hold if limit is None else min(limit - self.received, hold)

    def _take_held(self) -> bytes:
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.clear()
        self.received += len(data)
        return data

    def _accepts(self, status: int) -> bool:
        return status == (_PARTIAL_CONTENT if self.offset else OK)

    def _find_status_error(self) -> TransferError | None:
        status: int = self.handle.getinfo(pycurl.RESPONSE_CODE)
        if self._accepts(status):
            return None
        if self.offset and status in {OK, _RANGE_NOT_SATISFIABLE}:
            return ResumeError("the server does not send the rest", cast("Job[Any]", self.job).url)
        # Older pycurl does not pass on what the server asks for; then our own waits have to do.
        option: int | None = getattr(pycurl, "RETRY_AFTER", None)
        retry_after_s: int = 0 if option is None else self.handle.getinfo(option)
        return HTTPStatusError(cast("Job[Any]", self.job).url, status, float(retry_after_s) or None)

    def complete(self) -> Any:  # noqa: ANN401 - whatever the job's sink returns
        """Return what the sink makes of the whole body.

        Raises:
            ResumeError: It refuses a body that has come in two pieces.
        """
        error = self._find_status_error()
        if error is not None:
            raise error
        sink = self._sink
        if sink is None:
            sink = self._sink = cast("Job[Any]", self.job).make_sink()
        try:
            if self._chunks:
                sink.write(self._take_held())
            self._sink = None
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
        if self.offset:
            self.offset = 0
            self.handle.setopt(pycurl.RESUME_FROM_LARGE, 0)


class DocumentSlot(Slot):
    """A slot whose jobs are documents: it sends their headers and keeps those of the answer."""

    __slots__ = ("_document", "_status")

    def __init__(self, limits: Limits, options: Options, ca_file: str | None) -> None:
        """Make a handle that also reports headers."""
        self._document: Document | None = None
        super().__init__(limits, options, ca_file)
        self._status = 0
        self.handle.setopt(pycurl.HEADERFUNCTION, self._take_header)
        self.handle.setopt(pycurl.FAILONERROR, 0)  # would cost the connection

    def begin(self, job: Job[Any], attempt: int, partial: Partial | None = None) -> None:
        """Make the handle ready for a document."""
        assert partial is None
        super().begin(job, attempt)
        assert isinstance(job, Document)
        self._document = job
        _set_headers(self.handle, {**self._options.headers, **job.headers})

    def break_off(self) -> Partial | None:
        """Return None: documents may change from one moment to the next, so they come whole."""
        return None

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

    def _stream(self) -> None:
        if self._accepts(self._status):
            super()._stream()
            return
        self._take_held()
        self._room = self._limits.hold_bytes
        if self.received > self._limits.hold_bytes:
            raise HTTPStatusError(cast("Document", self._document).url, self._status)

    def _accepts(self, status: int) -> bool:
        document = self._document
        if document is None or not document.accepts(status):
            return False
        document.status = status
        return True
