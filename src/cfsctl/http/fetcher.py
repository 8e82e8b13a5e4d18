"""The interface between code that needs bytes from a URL and the libraries that fetch them.

A `Fetcher` does two things: `get` returns the body of one small document, `transfer` moves many bodies
at once into sinks. Both bound what they take, never wait forever, follow redirects within limits, and
try again if that can help; what is left is one of the errors of `cfsctl.http.errors`, which name their URL.

Nothing here reads the environment or opens a socket.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.urls import Origin

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)


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
    round_trip_s: float | None = None
    """Shortest time from a request to the first byte of its answer, of the first few."""

    def note_round_trip(self, seconds: float) -> None:
        """Take the time that one answer took."""
        if self.round_trip_s is None or seconds < self.round_trip_s:
            self.round_trip_s = seconds


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
