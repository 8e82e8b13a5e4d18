"""Send requests and read bodies with `requests`, within limits; without retries.

This is the only module that imports `requests`. Its sessions are not used: they cost more than a small
object does, and follow redirects and environment variables by rules that are not ours.
"""

from __future__ import annotations

import http.client
import re
import socket
import threading
import time
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import unquote

import requests
import requests.adapters
import requests.auth
import urllib3
import urllib3.exceptions

from cfsctl.http.answer import (
    MAX_LENGTH,
    Head,
    Mark,
    check_rest,
    find_redirect,
    mark_of,
    parse_head,
    parse_length,
    status_error,
)
from cfsctl.http.attempt import Redirected
from cfsctl.http.authorities import find_ca_file
from cfsctl.http.document import Document
from cfsctl.http.errors import (
    NOT_TLS,
    OK,
    ConnectFailedError,
    FetchTimeoutError,
    MalformedAnswerError,
    NotTLSError,
    RedirectError,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
)
from cfsctl.http.guard import GuardedResponse, MalformedHeadError, make_pools
from cfsctl.http.proxies import choose_proxy
from cfsctl.http.request import find_authorization, is_named, select_headers
from cfsctl.http.trace import find_trace, tell_failure, tell_success
from cfsctl.http.upload_request import Request
from cfsctl.http.urls import origin_of, split_credentials

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping

    from cfsctl.http.fetcher import Job, Limits, Options, Statistics
    from cfsctl.http.trace import Exchange, Trace

_READ_BYTES: Final = 64 << 10

_TLS_MARKS: Final = re.compile(r"^\[SSL[^\]]*\] | \(_ssl\.c:\d+\)$")
"""What Python's TLS adds to a message of OpenSSL."""

_WRONG_VERSION: Final = ("wrong version number", "wrong_version_number")
_RESOLVE_HINT: Final = "check the host name in the URL, and the network"

_CONNECTION_ERRORS: Final = (
    ConnectionError,
    requests.ConnectionError,
    http.client.HTTPException,
    urllib3.exceptions.ProtocolError,
    urllib3.exceptions.LocationParseError,  # a name that cannot be resolved
)


_FAILURES: Final = (
    MalformedHeadError,
    OSError,
    ValueError,  # what the libraries do not wrap, such as a name of a host that cannot be one
    urllib3.exceptions.HTTPError,
    http.client.HTTPException,
)


class Answer(NamedTuple):
    """An answer that brings what was asked for; a context manager.

    Attributes:
        response: As the library has it.
        head: Its head.
        exchange: What is told about it, or None.
    """

    response: requests.Response
    head: Head
    exchange: Exchange | None = None

    @property
    def mark(self) -> Mark:
        """Return what tells this body from another."""
        return mark_of(self.head)


class Client:
    """Sends requests and reads bodies. Used by several threads."""

    def __init__(self, limits: Limits, options: Options, statistics: Statistics) -> None:
        """Connect to nothing yet."""
        self._limits = limits
        self._options = options
        self._statistics = statistics
        self._ca_file = find_ca_file(options)
        if not options.verifies_tls:
            # The user has said so; the library would say it again for each request.
            urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
        self._templates: dict[object, requests.PreparedRequest] = {}
        self._pools = make_pools(limits)
        self._adapter = _Adapter(self._pools, limits.connections_max)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._adapter.close()

    def open(self, job: Job[Any], offset: int = 0, before: Mark | None = None) -> Answer:
        """Send the request and follow redirects; return an answer whose status is one the job wants.

        Args:
            job: What is wanted.
            offset: Number of bytes of the body received so far.
            before: What was said about the body when it began.

        Raises:
            ResumeError: The server does not send the rest.
        """
        url = job.url
        document = job if isinstance(job, Document) else None
        headers = document.headers if document else {"Range": f"bytes={offset}-"} if offset else None
        deadline_s = time.monotonic() + self._limits.answer_timeout_s
        for _ in range(self._limits.redirects + 1):
            answer = self._send(url, job, headers, deadline_s, offset)
            try:
                target = find_redirect(answer.head, url, job.url)
                if target is None:
                    self._check_status(answer.head, job, url, offset, before)
                    return answer
            except TransferError as error:
                answer.response.close()
                tell_failure(answer.exchange, error)
                raise
            answer.response.close()
            tell_failure(answer.exchange, Redirected(target, job.url))
            url = target
        raise RedirectError(f"more than {self._limits.redirects} redirects", job.url)

    def exchange(self, request: Request) -> Answer:
        """Send a request with any method; return the response with any status; do not follow redirects."""
        deadline_s = time.monotonic() + self._limits.answer_timeout_s
        return self._send(request.url, request, request.headers, deadline_s)

    def _check_status(self, head: Head, job: Job[Any], asked: str, offset: int, before: Mark | None) -> None:
        document = job if isinstance(job, Document) else None
        if document is not None and document.accepts(head.status):
            document.answer(head.status, head.fields)
        elif offset:
            check_rest(head, offset, before, job.url, asked)
        elif head.status != OK:
            raise status_error(head, job.url, asked)

    def _send(
        self,
        url: str,
        job: Job[Any],
        headers: Mapping[str, str] | None,
        deadline_s: float,
        offset: int = 0,
    ) -> Answer:
        bare, user, password = split_credentials(url)
        request = self._find_template(bare, job.url, user, password).copy()
        request.url = bare
        if headers:
            request.headers.update(headers)
        request.headers.update(find_authorization(url, job))
        if isinstance(job, Request):
            request.method, request.body = job.method, job.body  # type: ignore[assignment]  # files, too
        proxy = choose_proxy(self._options, bare)
        if proxy is not None and bare.startswith("http:"):
            request.headers.update(self._adapter.proxy_headers(proxy))
        limits = self._limits
        left_s = deadline_s - time.monotonic()
        if left_s <= 0:
            raise FetchTimeoutError(f"no answer after {limits.answer_timeout_s:.0f} s", job.url)
        with self._lock:
            self._statistics.requests += 1
        trace = self.find_trace()
        exchange = None if trace is None else trace.begin(url, job, offset, proxy)
        try:
            response = self._adapter.send(
                request,
                stream=True,
                timeout=(min(limits.connect_timeout_s, left_s), min(limits.stall_timeout_s, left_s)),
                verify=(self._ca_file or True) if self._options.verifies_tls else False,
                cert=self._find_certificate() if is_named(self._options, bare, job.url) else None,
                proxies={} if proxy is None else {"http": proxy, "https": proxy},
            )
        except _FAILURES as error:
            failure = _translate(error, job.url)
            tell_failure(exchange, failure)
            raise failure from error
        lines = _guarded(response).lines
        if exchange is not None:
            exchange.answer(lines)
        return Answer(response, parse_head(lines), exchange)

    def find_trace(self) -> Trace | None:
        """Return what logs requests, or None if logging is off."""
        return find_trace(self._options)

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
            headers |= select_headers(self._options, bare, first)
            request = requests.Request("GET", bare, headers=headers)
            if user is not None:
                request.auth = requests.auth.HTTPBasicAuth(unquote(user), unquote(password or ""))
            template = self._templates[key] = request.prepare()
        return template

    def _find_certificate(self) -> str | tuple[str, str] | None:
        certificate, key = self._options.client_certificate, self._options.client_key
        return certificate if certificate is None or key is None else (certificate, key)

    def iter_body(self, answer: Answer, job: Job[Any], offset: int = 0) -> Generator[bytes, None, None]:
        """Yield the body as it comes, counted, timed and compared with the length that was announced.

        Args:
            answer: Whose body; its connection is closed unless all of it was read.
            job: What is wanted; the limit is its own.
            offset: Bytes of the body that were there already.
        """
        received = 0
        try:
            for chunk in _iter_limited(answer, job, offset):
                received += len(chunk)
                yield chunk
        except TransferError as error:
            tell_failure(answer.exchange, error)
            raise
        finally:
            answer.response.close()
            with self._lock:
                self._statistics.received_bytes += received
        tell_success(answer.exchange, answer.head.status, received)


def _iter_limited(answer: Answer, job: Job[Any], offset: int) -> Iterator[bytes]:
    """Yield a body within the limit of a job; errors are our own."""
    expected = _find_length(answer.head)
    limit = None if job.limit_bytes is None else job.limit_bytes - offset
    received = 0
    if isinstance(job, Request) and job.method == "HEAD":
        return
    if limit is not None and expected is not None and expected > limit:
        raise TooLargeError(job.url, job.limit_bytes or 0)
    try:
        for chunk in _iter_raw(answer.response):
            received += len(chunk)
            if limit is not None and received > limit:
                raise TooLargeError(job.url, job.limit_bytes or 0)
            yield chunk
    except (MalformedHeadError, OSError, urllib3.exceptions.HTTPError, http.client.HTTPException) as error:
        raise _translate(error, job.url) from error
    if expected is not None and received < expected <= MAX_LENGTH:
        raise TruncatedBodyError(f"{received} of {expected} bytes", job.url)


class _Adapter(requests.adapters.HTTPAdapter):
    """The library's way to connections, with those that are guarded."""

    def __init__(self, pools: Mapping[str, type[urllib3.HTTPConnectionPool]], connections: int) -> None:
        self._guarded_pools = dict(pools)
        super().__init__(pool_maxsize=connections, max_retries=0)
        self.poolmanager.pool_classes_by_scheme = self._guarded_pools

    def proxy_manager_for(self, proxy: str, **options: Any) -> Any:  # noqa: ANN401 - as the library has it
        """Return what connects by way of a proxy."""
        manager = super().proxy_manager_for(proxy, **options)
        if proxy.lower().startswith("http"):
            manager.pool_classes_by_scheme = self._guarded_pools
        return manager


def _guarded(response: requests.Response) -> GuardedResponse:
    found = response.raw._original_response  # noqa: SLF001 - the libraries have no other way to it
    return cast("GuardedResponse", found)


def _iter_raw(response: requests.Response) -> Iterator[bytes]:
    raw = response.raw
    guarded = _guarded(response)
    wire = guarded.wire
    if guarded.chunked:
        yield from guarded.iter_chunks(_READ_BYTES)
        guarded.close()
        raw.release_conn()
        return
    # read1 returns available bytes at once. Old versions of urllib3 lack it; with them, slow bodies are
    # delayed.
    read = getattr(raw, "read1", raw.read)
    while chunk := cast("bytes", read(_READ_BYTES, decode_content=False)):
        wire.count(len(chunk))
        yield chunk


def _find_length(head: Head) -> int | None:
    if head.get("transfer-encoding") is not None:
        return None
    return parse_length(head.get("content-length"))


def _translate(error: Exception, url: str) -> TransferError:
    """Return our error for one of `requests` or urllib3."""
    root = _find_root(error)
    message = _describe(root)
    if isinstance(root, MalformedHeadError):
        return MalformedAnswerError(str(root), url)
    if isinstance(root, http.client.IncompleteRead):
        return TruncatedBodyError(_describe_end(root), url)
    if isinstance(error, TimeoutError | requests.Timeout | urllib3.exceptions.TimeoutError):
        return FetchTimeoutError(message, url)
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return _translate_tls(str(root), message, url)
    if isinstance(error, _CONNECTION_ERRORS):
        hint = _RESOLVE_HINT if isinstance(root, socket.gaierror) else None
        return ConnectFailedError(message, url, hint=hint)
    return TransferError(message, url)


def _describe_end(error: http.client.IncompleteRead) -> str:
    # urllib3 has a subclass with a number in place of the bytes.
    partial: object = error.partial
    came = partial if isinstance(partial, int) else len(cast("bytes", partial))
    missing = "" if error.expected is None else f", {error.expected} are missing"
    return f"{came} bytes came{missing}"


def _translate_tls(found: str, message: str, url: str) -> TLSError:
    if any(text in found.lower() for text in _WRONG_VERSION):
        return NotTLSError(NOT_TLS, url)
    return TLSError(message, url)


def _describe(error: BaseException) -> str:
    """Return what happened, without the names that the libraries have for it."""
    if isinstance(error, OSError) and error.strerror:
        return _TLS_MARKS.sub("", str(error.strerror))
    text = str(error).rpartition(">: ")[2] or str(error)
    return text or "the connection failed"


def _find_root(error: BaseException) -> BaseException:
    """Return what happened, without the layers of wrapping around it."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
        if not isinstance(inner, BaseException):
            # urllib3 keeps what the system has said as the cause of an error with a text of its own.
            inner = error.__cause__ if isinstance(error.__cause__, OSError) else None
        if inner is None:
            return error
        error = inner
