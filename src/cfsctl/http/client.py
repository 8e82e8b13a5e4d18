"""Requests and bodies by way of `requests`, within limits; no retries.

This is the only module that imports `requests`. Its sessions are not used: they cost more than a small
object does, and follow redirects and environment variables by rules that are not ours.
"""

from __future__ import annotations

import http.client
import threading
import time
from typing import TYPE_CHECKING, Any, Final, cast
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
    ResumeError,
    TLSError,
    TooLargeError,
    TransferError,
    TruncatedBodyError,
    check_url,
    find_ca_file,
    origin_of,
    split_credentials,
)
from cfsctl.http.retry import parse_retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.http.fetcher import Job, Limits, Options, Statistics

_READ_BYTES: Final = 64 << 10
_PARTIAL_CONTENT: Final = 206
_ABOUT_RANGES: Final = frozenset({OK, _PARTIAL_CONTENT, 416})
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
_SENSITIVE_HEADERS: Final = frozenset({"authorization", "cookie"})
"""Header fields that are meant for one server."""


class Client:
    """Sends requests and reads bodies. Used by several threads."""

    def __init__(self, limits: Limits, options: Options, statistics: Statistics) -> None:
        """Connect to nothing yet."""
        self._limits = limits
        self._options = options
        self._statistics = statistics
        self._ca_file = find_ca_file(options)
        self._templates: dict[object, requests.PreparedRequest] = {}
        self._adapter = requests.adapters.HTTPAdapter(pool_maxsize=limits.connections_max, max_retries=0)
        self._lock = threading.Lock()

    def close(self) -> None:
        """Close all connections."""
        self._adapter.close()

    def open(self, job: Job[Any], offset: int = 0) -> requests.Response:
        """Send the request and follow redirects; return an answer whose status is one the job wants.

        Args:
            job: What is wanted.
            offset: Bytes of the body that are there already.

        Raises:
            ResumeError: The server does not send the rest.
        """
        url = job.url
        document = job if isinstance(job, Document) else None
        headers = document.headers if document else {"Range": f"bytes={offset}-"} if offset else None
        for _ in range(self._limits.redirects + 1):
            response = self._send(url, job, headers)
            target = response.headers.get("location") if response.status_code in _REDIRECTS else None
            if target is None:
                self._check_status(response, job, document, offset)
                return response
            response.close()
            url = _follow(url, target, job)
        raise RedirectError(f"more than {self._limits.redirects} redirects", job.url)

    def _check_status(
        self, response: requests.Response, job: Job[Any], document: Document | None, offset: int
    ) -> None:
        status = response.status_code
        if document is not None and document.accepts(status):
            document.status = status
            document.answered.update((name.lower(), value) for name, value in response.headers.items())
        elif offset and status in _ABOUT_RANGES:
            start = response.headers.get("content-range", "").startswith(f"bytes {offset}-")
            if status != _PARTIAL_CONTENT or not start:
                response.close()
                raise ResumeError("the server does not send the rest", job.url)
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

    def iter_body(self, response: requests.Response, job: Job[Any], offset: int = 0) -> Iterator[bytes]:
        """Yield the body as it comes, counted, timed and compared with the length that was announced.

        Args:
            response: The answer.
            job: What is wanted; the limit is its own.
            offset: Bytes of the body that were there already.
        """
        expected = _find_length(response)
        limit = None if job.limit_bytes is None else job.limit_bytes - offset
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
            raise TruncatedBodyError(f"{received} of {expected} bytes", job.url)


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
    root = _find_root(error)
    message = f"{type(root).__name__}: {root}"
    if isinstance(root, http.client.IncompleteRead):
        return TruncatedBodyError(repr(root), url)
    if isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError):
        return FetchTimeoutError(message, url)
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return TLSError(message, url)
    if isinstance(error, requests.ConnectionError | urllib3.exceptions.ProtocolError):
        return ConnectFailedError(message, url)
    return TransferError(message, url)


def _find_root(error: BaseException) -> BaseException:
    """Return what happened, without the layers of wrapping around it."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[-1] if error.args else None)
        if not isinstance(inner, BaseException):
            return error
        error = inner
