"""Requests that change something on a server: one at a time, and each tried again if that can help.

They are always sent with `requests`, regardless of the transport for downloads: they are few, with one large
body.
"""

from __future__ import annotations

from dataclasses import replace
from typing import IO, TYPE_CHECKING, Final, TypeVar

from cfsctl import heartbeat
from cfsctl.http.answer import status_error
from cfsctl.http.client import Client
from cfsctl.http.errors import TransferError
from cfsctl.http.fetcher import Response, Statistics
from cfsctl.http.retry import compute_pause
from cfsctl.http.trace import tell_again
from cfsctl.http.upload_request import Request
from cfsctl.json_fields import JsonError, JsonFields, parse_object

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from cfsctl.http.fetcher import Limits, Options

T = TypeVar("T")

_ANSWER_TIMEOUT_S: Final = 600.0
"""A server may look at all of a large body before it answers."""

_MAX_ANSWER_BYTES: Final = 1 << 20
_MAX_DETAIL_CHARACTERS: Final = 200
_FIRST_ERROR: Final = 400
_MISSING: Final = 404


class Uploader:
    """Sends requests of any method."""

    def __init__(self, limits: Limits, options: Options, answer_timeout_s: float = _ANSWER_TIMEOUT_S) -> None:
        """Connect to nothing yet."""
        self._limits = replace(
            limits,
            stall_timeout_s=max(limits.stall_timeout_s, answer_timeout_s),
            answer_timeout_s=max(limits.answer_timeout_s, answer_timeout_s),
        )
        self._client = Client(self._limits, options, Statistics())

    def send(
        self,
        method: str,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        body: bytes | IO[bytes] | None = None,
        size: int = 0,
    ) -> Response:
        """Send one request, once; redirects are not followed.

        Returns:
            The answer, if its status is below 400 or 404.

        Raises:
            HTTPStatusError: It has another status; the hint is what the server says about it.
            TransferError: There was none.
        """
        request = Request(method, url, _MAX_ANSWER_BYTES, headers, authorization, body, size)
        answer = self._client.exchange(request)
        data = b"".join(self._client.iter_body(answer, request))
        status = answer.head.status
        if status >= _FIRST_ERROR and status != _MISSING:
            error = status_error(answer.head, url)
            error.hint = _find_detail(data)
            raise error
        request.answer(status, answer.head.fields)
        return request.to_response(data)

    def retry(self, action: Callable[[], T]) -> T:
        """Return what some requests bring, which are sent again after errors that speak of the moment."""
        attempt = 0
        while True:
            attempt += 1
            try:
                return action()
            except TransferError as error:
                pause_s = compute_pause(error, attempt, self._limits)
                if pause_s is None:
                    raise
                tell_again(self._client.find_trace(), error.url, attempt, pause_s)
                heartbeat.sleep(pause_s)

    def close(self) -> None:
        """Close all connections."""
        self._client.close()


def _find_detail(body: bytes) -> str | None:
    """Return what a registry says about an error, if that can be shown."""
    try:
        errors = parse_object(body, "answer").find_list_of_fields("errors")
        texts = [_describe(error) for error in errors[:2]]
    except JsonError:
        return None
    text = "; ".join(filter(None, texts))[:_MAX_DETAIL_CHARACTERS]
    return f"the server says: {text}" if text and text.isprintable() else None


def _describe(error: JsonFields) -> str:
    return ": ".join(filter(None, (error.find_string("code"), error.find_string("message"))))
