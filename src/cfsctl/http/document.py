"""The job that `Fetcher.get` runs for one small document, with any transport."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Final

from cfsctl.http.errors import NOT_MODIFIED, OK
from cfsctl.http.fetcher import Response

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError

_CONDITIONS: Final = frozenset({"if-none-match", "if-modified-since"})


class Collector:
    """A sink that keeps the body."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self._first = b""
        self._all: io.BytesIO | None = None

    def write(self, chunk: bytes, /) -> None:
        """Keep the chunk."""
        if self._all is not None:
            self._all.write(chunk)
        elif self._first:
            self._all = io.BytesIO()  # Grows in place; joining a list would hold everything twice.
            self._all.write(self._first)
            self._all.write(chunk)
        else:
            self._first = chunk

    def finish(self) -> bytes:
        """Return the whole body."""
        return self._first if self._all is None else self._all.getvalue()

    def abort(self) -> None:
        """Forget everything."""
        self._first = b""
        self._all = None


class Document:
    """A control request.

    Attributes:
        url: Where the document is.
        limit_bytes: Largest body to accept.
        headers: Sent in addition to those of every request.
        authorization: The header field of that name, for the origin of `url` only.
        status: Status of the answer, once there is one.
        answered: Header fields of the answer by lower-case name, as received.
    """

    def __init__(
        self,
        url: str,
        limit_bytes: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> None:
        """Describe the request."""
        self.authorization = authorization
        self.url = url
        self.limit_bytes = limit_bytes
        self.headers = dict(headers or {})
        self.status = 0
        self.answered: dict[str, str] = {}
        self._is_conditional = any(name.lower() in _CONDITIONS for name in self.headers)

    def accepts(self, status: int) -> bool:
        """Return whether an answer with this status is one; 304 only answers a condition."""
        return status == OK or (status == NOT_MODIFIED and self._is_conditional)

    def answer(self, status: int, fields: Iterable[tuple[str, str]]) -> None:
        """Keep the status of the answer, and its header fields with their names in small letters."""
        self.status = status
        self.answered = dict(fields)

    def make_sink(self) -> Collector:
        """Return a sink that keeps the body."""
        return Collector()

    def explain(self, error: TransferError, /) -> CfsError:
        """Return the error as it is."""
        return error

    def to_response(self, body: bytes) -> Response:
        """Return the answer."""
        etag, last_modified, date = map(self.answered.get, ("etag", "last-modified", "date"))
        return Response(self.status, body, etag, last_modified, date, self.answered)
