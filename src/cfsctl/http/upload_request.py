"""A request that changes something, or asks without wanting a body."""

from __future__ import annotations

from typing import IO, TYPE_CHECKING

from cfsctl.http.document import Document

if TYPE_CHECKING:
    from collections.abc import Mapping


class Request(Document):
    """A request of any method, with a body or without.

    Attributes:
        method: For example ``PUT``.
        body: What is sent; a file is sent from where it stands.
    """

    def __init__(
        self,
        method: str,
        url: str,
        limit_bytes: int,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
        body: bytes | IO[bytes] | None = None,
        size: int = 0,
    ) -> None:
        """Describe the request.

        Args:
            method: For example ``PUT``.
            url: Where it goes.
            limit_bytes: Largest body of an answer to accept.
            headers: Sent in addition.
            authorization: The header field of that name.
            body: What is sent.
            size: Bytes of it.
        """
        super().__init__(url, limit_bytes, headers, authorization)
        self.method = method
        self.body = body
        if method != "HEAD":
            self.headers["Content-Length"] = str(size)
