"""Tell what is asked of servers and what they answer, with the same words whichever transport does it.

A line for each exchange at the level DEBUG of the logger ``cfsctl.http``; header fields at `logs.TRACE`. URLs
come without user, password and query, and of header fields that may hold a secret only the name is said.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING, Any, Final

from cfsctl import logs
from cfsctl.http.attempt import Redirected
from cfsctl.http.document import Document
from cfsctl.http.errors import HTTPStatusError, TransferError
from cfsctl.http.request import find_authorization, select_headers
from cfsctl.http.urls import redact_url, split_credentials

if TYPE_CHECKING:
    import logging
    from collections.abc import Iterable

    from cfsctl.http.fetcher import Job, Options

NAME: Final = "cfsctl.http"

_DEBUG: Final = 10

_HARMLESS: Final = frozenset(
    {"accept", "accept-encoding", "content-length", "content-range", "content-type", "range", "user-agent"}
    | {"if-match", "if-modified-since", "if-none-match", "if-range"}
)
"""Fields of requests whose values are said."""

_SECRET: Final = re.compile(r"cookie|token|secret|session|api-?key|authentication-info|^proxy-auth", re.ASCII)
"""Names of fields of answers whose values are not said."""

_SCHEME: Final = re.compile(r"(?i:basic|bearer|digest|negotiate)(?= )", re.ASCII)
_MAX_CHARACTERS: Final = 500
"""Of a header field."""


class Exchange:
    """A request and its answer."""

    __slots__ = ("_began_s", "_method", "_offset", "_trace", "_url")

    def __init__(self, trace: Trace, method: str, url: str, offset: int) -> None:
        """Begin now."""
        self._trace = trace
        self._method = method
        self._url = redact_url(url)
        self._offset = offset
        self._began_s = time.monotonic()

    def answer(self, lines: Iterable[bytes]) -> None:
        """Log the header fields of the response, at the level for them."""
        self._trace.tell_fields("<", _iter_answered(lines))

    def succeed(self, status: int, size: int) -> None:
        """Tell that the answer is there, and how large its body was."""
        self._tell(f"{status}, {size} bytes")

    def fail(self, error: TransferError) -> None:
        """Tell what has come instead."""
        match error:
            case Redirected():
                self._tell(f"redirected to {redact_url(error.target)}")
            case HTTPStatusError():
                self._tell(f"{error.status}")
            case _:
                self._tell(str(error).removeprefix(f"{error.url}: "))

    def _tell(self, what: str) -> None:
        rest = f" from byte {self._offset}" if self._offset else ""
        spent_s = time.monotonic() - self._began_s
        self._trace.tell(f"{self._method} {self._url}{rest}: {what}, {spent_s:.3f} s")


def tell_failure(exchange: Exchange | None, error: BaseException, lines: Iterable[bytes] = ()) -> None:
    """Tell what an exchange has brought in place of what was wanted, if that is to be told.

    Args:
        exchange: The exchange, or None.
        error: What it ended with; what a sink has raised is no matter of the exchange.
        lines: Its header fields, unless they were told.
    """
    if exchange is not None and isinstance(error, TransferError):
        exchange.answer(lines)
        exchange.fail(error)


def tell_success(exchange: Exchange | None, status: int, size: int, lines: Iterable[bytes] = ()) -> None:
    """Tell that an answer is there, if that is to be told."""
    if exchange is not None:
        exchange.answer(lines)
        exchange.succeed(status, size)


def tell_again(trace: Trace | None, url: str, number: int, pause_s: float) -> None:
    """Tell that a request will be sent again, if that is to be told.

    Args:
        trace: To tell it, or None.
        url: What was asked for.
        number: Which attempt has failed.
        pause_s: Seconds until the next one.
    """
    if trace is not None:
        trace.tell(f"{redact_url(url)}: attempt {number + 1} in {pause_s:.3f} s")


def tell_elsewhere(trace: Trace | None, url: str, other: str) -> None:
    """Tell that the same thing will be asked of another server, if that is to be told."""
    if trace is not None:
        trace.tell(f"{redact_url(url)}: next from {redact_url(other)}")


class Trace:
    """Tells about the requests of one fetcher."""

    def __init__(self, logger: logging.Logger, options: Options) -> None:
        """Tell nothing yet."""
        self._logger = logger
        self._options = options

    def begin(self, url: str, job: Job[Any], offset: int, proxy: str | None) -> Exchange:
        """Tell about a request, which is sent now.

        Args:
            url: What is asked for, to which redirects may have led.
            job: What is wanted.
            offset: Where in the body to begin.
            proxy: URL of the proxy that is asked, or None.
        """
        method = getattr(job, "method", "GET")
        if self._logger.isEnabledFor(logs.TRACE):
            way = "" if proxy is None else f" by way of {redact_url(proxy)}"
            self._logger.log(logs.TRACE, "> %s %s%s", method, redact_url(url), way)
            self.tell_fields(">", _select_sent(self._options, url, job, offset).items())
        return Exchange(self, method, url, offset)

    def tell(self, text: str) -> None:
        """Tell a line."""
        self._logger.debug("%s", text)

    def tell_fields(self, mark: str, fields: Iterable[tuple[str, str]]) -> None:
        """Log header fields, at the level for them."""
        if self._logger.isEnabledFor(logs.TRACE):
            for name, value in fields:
                self._logger.log(logs.TRACE, "%s %s: %s", mark, name, value[:_MAX_CHARACTERS])


def find_trace(options: Options) -> Trace | None:
    """Return what logs requests, or None if logging is off."""
    logger = logs.find_listened(NAME, _DEBUG)
    return None if logger is None else Trace(logger, options)


def _select_sent(options: Options, url: str, job: Job[Any], offset: int) -> dict[str, str]:
    """Return header fields of a request by name, without secrets."""
    _, user, _ = split_credentials(url)
    fields = {"User-Agent": options.user_agent} | select_headers(options, url, job.url)
    if user is not None:
        fields["Authorization"] = "Basic "
    if isinstance(job, Document):
        fields |= job.headers
    if offset:
        fields["Range"] = f"bytes={offset}-"
    fields |= find_authorization(url, job)
    return {name: _mask(name, value) for name, value in fields.items()}


def _mask(name: str, value: str) -> str:
    if name.lower() in _HARMLESS:
        return value
    scheme = _SCHEME.match(value)
    return f"{scheme[0]} ***" if scheme else "***"


def _iter_answered(lines: Iterable[bytes]) -> Iterable[tuple[str, str]]:
    """Yield header fields of an answer, without secrets."""
    for line in lines:
        name, colon, value = line.decode("latin-1").partition(":")
        if colon:
            yield name, _mask_answered(name.lower(), value.strip())


def _mask_answered(name: str, value: str) -> str:
    if _SECRET.search(name):
        return "***"
    return redact_url(value) if name in {"location", "content-location", "link"} else value
