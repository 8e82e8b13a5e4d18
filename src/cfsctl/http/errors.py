"""Requests that brought nothing usable: errors that name their URL, and the meaning of HTTP statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from cfsctl.errors import ExitCode, FetchError
from cfsctl.http.urls import redact_url

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Self

    from cfsctl.http.urls import Origin

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
