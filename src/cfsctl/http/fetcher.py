"""The interface between code that needs bytes from a URL and the libraries that fetch them.

A `Fetcher` does two things: `get` returns the body of one small document, `transfer` moves many bodies
at once into sinks. Both bound what they take, never wait forever, follow redirects within limits, and
try again if that can help; what is left is one of the errors below, and each names its URL.

Nothing here reads the environment or opens a socket.
"""

from __future__ import annotations

import functools
import os
import re
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, ClassVar, Protocol, TypeAlias, TypeVar
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cfsctl.errors import CfsError, ExitCode, FetchError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Mapping
    from typing import Self

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""

OK = 200
NOT_MODIFIED = 304

MISSING_STATUSES = frozenset({403, 404, 410})
"""Statuses for a missing file; object stores without list permission respond with 403."""

_RETRIED_STATUSES = frozenset({408, 429, 500, 502, 503, 504})
"""Statuses that speak of the moment and not of the request."""

THROTTLING_STATUSES = frozenset({429, 503})
"""Statuses by which a server asks for less."""


class TransferError(FetchError):
    """A request that brought nothing usable.

    Attributes:
        url: What was asked for, without user name and password.
        is_transient: Whether the same request may well succeed later.
        retry_after_s: How long the server asked to be left alone, or None.
    """

    is_transient = False
    retry_after_s: float | None = None

    def __init__(self, message: str, url: str, *, hint: str | None = None) -> None:
        """Store what happened; the URL goes in front of it."""
        self.url = redact_url(url)
        super().__init__(f"{self.url}: {message}", hint=hint)

    def about(self, name: str) -> Self:
        """Prefix the message with the name of the requested file and return the same error."""
        self.args = (f"{name}: {self}",)
        return self


class HTTPStatusError(TransferError):
    """An answer with another status than the one that was hoped for.

    Attributes:
        status: Three digits.
        fields: Header fields of the answer, with their names in small letters.
        answered_by: Origin of the server that answered, to which redirects may have led; None if unknown.
    """

    def __init__(
        self,
        url: str,
        status: int,
        retry_after_s: float | None = None,
        *,
        fields: Iterable[tuple[str, str]] = (),
        answered_by: Origin | None = None,
    ) -> None:
        """Keep the status and what the server said about later."""
        super().__init__(_describe_status(status), url, hint=_STATUS_HINTS.get(status))
        if self.hint is None and status >= _FIRST_SERVER_ERROR:
            self.hint = "the server has a problem: try again later, or with more --retries"
        self.status = status
        self.fields = tuple(fields)
        self.answered_by = answered_by
        self.retry_after_s = retry_after_s
        self.is_transient = status in _RETRIED_STATUSES


_FIRST_SERVER_ERROR = 500

_STATUS_TEXTS = {
    401: "which asks for credentials",
    403: "which forbids it",
    404: "which means that there is nothing",
    407: "which asks for credentials for the proxy",
    429: "which asks for fewer requests",
}

_STATUS_HINTS = {
    401: "give valid credentials: --auth-file, --header or --client-certificate, for registries --authfile",
    403: "check the URL, and whether these credentials may read it",
    404: "check the URL",
    407: "give user and password in the URL of --proxy",
    429: "try again later, with fewer --connections",
}


def _describe_status(status: int) -> str:
    text = _STATUS_TEXTS.get(status)
    return f"the server answered with HTTP status {status}" + (f", {text}" if text else "")


class _HintedError(TransferError):
    """An error whose class knows what to do next."""

    usual_hint: ClassVar[str]

    def __init__(self, message: str, url: str, *, hint: str | None = None) -> None:
        """Store what happened."""
        super().__init__(message, url, hint=hint or self.usual_hint)


class ConnectFailedError(_HintedError):
    """No connection, or one that broke off before the answer was whole."""

    is_transient = True
    usual_hint = "check host and port of the URL, and the network; --proxy if there is one"


class FetchTimeoutError(_HintedError):
    """A connection or an answer that took too long, or came too slowly."""

    is_transient = True
    usual_hint = "try again, or allow more with --connect-timeout, --stall-timeout and --retries"


class TruncatedBodyError(TransferError):
    """A body that ended before the length that the server gave for it."""

    is_transient = True

    def __init__(self, detail: str, url: str) -> None:
        """Store what the transport knows about it."""
        super().__init__(f"the body is shorter than announced: {detail}", url)


class ResumeError(TransferError):
    """A transfer that could not go on where it had broken off, and has to begin again."""

    is_transient = True


class TooLargeError(TransferError):
    """A body beyond the limit for what was asked for."""

    exit_code = ExitCode.INVALID_DATA

    def __init__(self, url: str, limit_bytes: int) -> None:
        """Keep the limit."""
        super().__init__(f"the body is larger than the limit of {limit_bytes} bytes", url)
        self.limit_bytes = limit_bytes


class RedirectError(TransferError):
    """Too many redirects, or one to where we do not go."""


class MalformedAnswerError(TransferError):
    """An answer that is not HTTP, or so large or contradictory in its head that it is not read on."""


class TLSError(_HintedError):
    """A server that could not prove who it is."""

    usual_hint = "check the URL; --ca-file names the authority of a server with a certificate of its own"


NOT_TLS = "expected TLS, found that the server answers in plain text"
"""Message of a `NotTLSError`."""


class NotTLSError(TLSError):
    """A port where the server does not speak TLS."""

    usual_hint = "the server does not speak TLS on this port: use http:// or the port of https"


class InvalidURLError(FetchError):
    """Text that is not a URL of a repository."""

    exit_code = ExitCode.USAGE


MAX_CONNECTIONS = 64
"""Connections that all processes of a pull have at most, unless the user says otherwise."""


@dataclass(frozen=True, slots=True)
class Limits:
    """How far a fetcher goes; the defaults are those of libostree where it has one.

    Attributes:
        connect_timeout_s: Time to a connection, TLS included.
        stall_timeout_s: Time in which the head of an answer must be whole, and then at least one byte of the
            body must come. What belongs to no body, such as interim answers, chunk extensions and trailers,
            does not count.
        answer_timeout_s: Time from a request to the first byte of the body, with all redirects.
        exchange_timeout_s: Time for a whole exchange; a large body may be resumed after it.
        low_speed_bytes_per_s: A body that stays below this for `low_speed_time_s` has failed.
        low_speed_time_s: See above; whole seconds.
        redirects: Redirects followed for one request.
        connections: Connections to begin with.
        connections_max: Connections when waiting for the server takes most of the time.
        streams_max: Requests in flight where the server takes many on one connection (HTTP/2).
        attempts: Requests for one thing, first one included.
        timeout_attempts: The same if they ended in a timeout, each of which took long enough.
        progress_bytes: An attempt that has brought this much of a body is followed by as many as the first.
        backoff_s: Mean pause before the second attempt; doubles with each.
        backoff_max_s: Longest pause that is chosen by us.
        retry_after_max_s: Longest pause that is granted to a server that asks for one.
        hold_bytes: A body up to this size reaches its sink in one piece, when it is whole; a larger one
            in pieces of about this size, as it comes.
    """

    connect_timeout_s: float = 30.0
    stall_timeout_s: float = 30.0
    answer_timeout_s: float = 90.0
    exchange_timeout_s: float = 24 * 3600.0
    low_speed_bytes_per_s: int = 1000
    low_speed_time_s: float = 30.0
    redirects: int = 10
    connections: int = 8
    connections_max: int = 24
    streams_max: int = 64
    attempts: int = 5
    timeout_attempts: int = 2
    progress_bytes: int = 8 << 20
    backoff_s: float = 0.25
    backoff_max_s: float = 15.0
    retry_after_max_s: float = 60.0
    hold_bytes: int = 256 << 10

    @classmethod
    def shared(cls, processes: int, connections: int = MAX_CONNECTIONS) -> Limits:
        """Return limits for each of several processes that fetch at the same time.

        Args:
            processes: How many they are, at least 1.
            connections: What they may have together; each may have one in any case.
        """
        each = max(1, connections // processes)
        return cls(connections=min(each, cls().connections), connections_max=each)

    def with_patience(
        self, connect_timeout_s: float | None, stall_timeout_s: float | None, retries: int | None
    ) -> Limits:
        """Return limits that follow what a user wants, None being the default of each.

        What depends on a time grows and shrinks with it.

        Args:
            connect_timeout_s: Time to a connection.
            stall_timeout_s: Time without a byte of the answer.
            retries: Further requests for a thing, whatever the first one failed by.
        """
        connect_s = self.connect_timeout_s if connect_timeout_s is None else connect_timeout_s
        stall_s = self.stall_timeout_s if stall_timeout_s is None else stall_timeout_s
        attempts = self.attempts if retries is None else retries + 1
        return replace(
            self,
            connect_timeout_s=connect_s,
            stall_timeout_s=stall_s,
            low_speed_time_s=self.low_speed_time_s if stall_timeout_s is None else stall_s,
            answer_timeout_s=max(3 * stall_s, connect_s + stall_s),
            attempts=attempts,
            timeout_attempts=self.timeout_attempts if retries is None else attempts,
        )


@dataclass(frozen=True, slots=True)
class Options:
    """How to reach a server.

    Attributes:
        user_agent: What we call ourselves.
        headers: Sent to the servers that the user has named.
        proxies: Proxy URL by scheme of the request, ``http`` and ``https``.
        no_proxy: Hosts that are reached directly, separated by commas.
        ca_file: Certificates of authorities to trust; None is what the system trusts.
        more_authorities: Files of certificates of authorities to trust as well.
        verifies_tls: Whether a server has to prove who it is.
        client_certificate: Our certificate, PEM.
        client_key: Its key, PEM; None if it is in the same file.
        origins: What the user has named, as `origin_of` returns it: header fields and certificate are for
            these. None means the origin of each request, but not targets of redirects.
    """

    user_agent: str = "cfsctl"
    headers: Mapping[str, str] = field(default_factory=dict)
    proxies: Mapping[str, str] = field(default_factory=dict)
    no_proxy: str = ""
    ca_file: str | None = None
    more_authorities: tuple[str, ...] = ()
    verifies_tls: bool = True
    client_certificate: str | None = None
    client_key: str | None = None
    origins: frozenset[Origin] | None = None


@dataclass(frozen=True, slots=True)
class Response:
    """The answer to a control request.

    Attributes:
        status: 200, or 304 if the request had a condition.
        body: The whole body; empty for 304.
        etag: As received, or None.
        last_modified: As received, or None.
        date: When the server says that it has answered, as received, or None.
        fields: All header fields by their names in small letters.
    """

    status: int
    body: bytes
    etag: str | None
    last_modified: str | None
    date: str | None = None
    fields: Mapping[str, str] = field(default_factory=dict, compare=False)


@dataclass(slots=True)
class Statistics:
    """What a fetcher has done in this process."""

    requests: int = 0
    retries: int = 0
    received_bytes: int = 0


class BodySink(Protocol[T_co]):
    """Takes a body. Exactly one of `finish` and `abort` is called last, unless `finish` raises."""

    def write(self, chunk: bytes, /) -> None:
        """Process the next bytes; what it raises ends the transfer and is passed on."""

    def finish(self) -> T_co:
        """Return what became of the body."""

    def abort(self) -> None:
        """Discard what was received; must not raise. The transfer may restart with another sink."""


class Job(Protocol[T_co]):
    """One transfer: from where, how much at most, into what.

    A job may also have a method ``find_other(error)``: asked when the transfer has failed for good, it
    returns a job for the same thing from elsewhere, which takes its place, or None. And it may have a
    property ``authorization``: the value of that header field, or None; asked for each attempt, and sent to
    the origin of `url` only, wherever redirects lead. Last, it may have a property ``partial``: what there
    is of the body already (`cfsctl.http.attempt.Partial`), or None. Then the rest is asked for first; if the
    server does not send just that, all of the body goes into a fresh sink.
    """

    @property
    def url(self) -> str:
        """Return the URL, percent-encoded."""

    @property
    def limit_bytes(self) -> int | None:
        """Return the largest body to accept; None leaves that to the sink."""

    def make_sink(self) -> BodySink[T_co]:
        """Return a fresh sink; called when the first bytes are to be taken, again for each new attempt."""

    def explain(self, error: TransferError, /) -> CfsError:
        """Return the error to raise when the transfer has failed for good."""


class Fetcher(Protocol):
    """Fetches from servers. Usable after a fork: each process opens its own connections."""

    @property
    def statistics(self) -> Statistics:
        """Return the counters of this process."""

    def get(
        self,
        url: str,
        *,
        limit_bytes: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> Response:
        """Return a whole document.

        Args:
            url: An ``http`` or ``https`` URL.
            limit_bytes: Largest body to accept.
            headers: Sent in addition, for example a condition; also to where redirects lead.
            authorization: The header field of that name, for the origin of `url` only.

        Raises:
            TransferError: It could not be had; `HTTPStatusError` for any status but 200, or 304 if a
                condition was sent.
        """

    def transfer(self, next_job: Callable[[], Job[T] | None]) -> Generator[T, None, None]:
        """Run jobs and yield what their sinks return, in the order in which they end.

        Sinks are called in the calling process and thread, one at a time. Closing the iterator cancels
        what is in flight. Another transfer may run between two results; this one waits for so long.

        Args:
            next_job: Asked whenever another transfer may start, and again after each that ended; None
                is "nothing now". The iterator ends when there is nothing and nothing is in flight.

        Raises:
            CfsError: What `Job.explain` made of a transfer that failed for good; the others are
                cancelled. Anything a sink raises.
        """

    def close(self) -> None:
        """Close the connections of this process; the fetcher opens new ones when it is used again."""


_SYSTEM_CA_FILES = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Arch, Alpine
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora, RHEL
    "/etc/ssl/ca-bundle.pem",  # SUSE
    "/etc/ssl/cert.pem",  # others
)


def find_ca_file(options: Options) -> str | None:
    """Return the file of trusted authorities: the chosen one, the system's, certifi's or None.

    Where more are to be trusted, it is a file in memory that has all of them.
    """
    if not options.more_authorities:
        return _find_base_file(options)
    return _join_files((_find_base_file(options), *options.more_authorities))


@functools.lru_cache(256)
def _join_files(paths: tuple[str | None, ...]) -> str:
    """Return the name of a file in memory with the content of others; it lasts as long as the process."""
    fd = os.memfd_create("authorities")
    for path in filter(None, paths):
        with open(path, "rb") as source:
            os.write(fd, source.read() + b"\n")
    return f"/proc/self/fd/{fd}"


def _find_base_file(options: Options) -> str | None:
    if options.ca_file is not None:
        return options.ca_file
    for path in _SYSTEM_CA_FILES:
        if os.path.exists(path):
            return path
    try:
        import certifi  # noqa: PLC0415 - only on systems that have no bundle of their own
    except ImportError:
        return None
    return certifi.where()


_HOST = re.compile(r"(\[[^\]]*\]|[^:@]*)(:\d*)?", re.ASCII)
"""Host and port of a URL without credentials."""


def redact_url(url: str) -> str:
    """Return the URL without user name, password and query, even if it is malformed.

    A query may be a token: that of a URL that was signed in advance, say.

    A password with a slash in it, say, makes of the text something else than its author meant. So where what
    stands for the host is none, everything up to the last ``@`` is omitted.
    """
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url if "@" not in url else url.rpartition("@")[2]
    authority, slash, path = _split_authority(rest)
    if "@" in authority:
        authority = authority.rpartition("@")[2]
    if "@" in path and not _HOST.fullmatch(authority):
        authority, slash, path = _split_authority(path.rpartition("@")[2])
    return _hide_query(f"{scheme}{separator}{authority}{slash}{path}")


def _hide_query(url: str) -> str:
    place, mark, query = url.partition("?")
    return f"{place}?..." if mark and query else url


def _split_authority(rest: str) -> tuple[str, str, str]:
    end = min((place for mark in "/?#" if (place := rest.find(mark)) >= 0), default=len(rest))
    return rest[:end], rest[end : end + 1], rest[end + 1 :]


def named_origins(urls: Iterable[str]) -> frozenset[Origin]:
    """Return the origins of URLs that a user has named; malformed ones are skipped."""
    found = set()
    for url in urls:
        try:
            found.add(origin_of(url))
        except ValueError:
            continue
    return frozenset(found)


def check_url(url: str) -> SplitResult:
    """Return the parts of a URL that we can fetch from.

    Raises:
        InvalidURLError: Another scheme than http and https, no host, an invalid port, or characters
            that do not belong into a URL.
    """
    if any(character <= " " or character == "\x7f" for character in url):
        raise InvalidURLError(f"{redact_url(url)!r} is not a URL: it contains spaces or control characters")
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        # What the library says shows the text, which may be a part of a password.
        reason = "its host or port is not valid" if "@" in url else error
        raise InvalidURLError(f"'{redact_url(url)}' is not a URL: {reason}") from None
    if parts.scheme not in {"http", "https"}:
        raise InvalidURLError(
            f"'{redact_url(url)}' cannot be fetched: expected a URL that begins with http:// or https://",
            hint="for a repository on this machine use pull-local"
            if parts.scheme in {"", "file"}
            else "check the URL: servers of repositories speak HTTP",
        )
    if not host:
        raise InvalidURLError(f"'{redact_url(url)}' is not a URL of a server: it has no host")
    return parts


def origin_of(url: str) -> Origin:
    """Return scheme, host and port of a valid URL: what credentials are meant for."""
    parts = urlsplit(url)
    default = 443 if parts.scheme == "https" else 80
    return parts.scheme, (parts.hostname or "").lower(), parts.port or default


def split_credentials(url: str) -> tuple[str, str | None, str | None]:
    """Return the URL without its credentials, then user name and password as they stand in it."""
    parts = urlsplit(url)
    if parts.username is None:
        return url, None, None
    bare = parts._replace(netloc=parts.netloc.rpartition("@")[2])
    return urlunsplit(bare), parts.username, parts.password or ""
