"""Interpret response heads by the same rules for every transport.

A transport passes the raw lines. An ordinary response does not need them, so they are only parsed for
redirects, for resumed bodies and for ``Retry-After``. All text here comes from the server: anything that is
not understood is refused, never guessed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote_from_bytes, urljoin

from cfsctl.http.errors import (
    OK,
    HTTPStatusError,
    MalformedAnswerError,
    RedirectError,
    ResumeError,
    TransferError,
)
from cfsctl.http.retry import parse_retry_after
from cfsctl.http.urls import InvalidURLError, check_url, origin_of, redact_url, split_credentials

if TYPE_CHECKING:
    from collections.abc import Iterable

REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})
"""Statuses that send elsewhere; the others of the 300s are not an answer to what we ask."""

PARTIAL_CONTENT: Final = 206
_RANGE_NOT_SATISFIABLE: Final = 416

_STATUS_LINE: Final = re.compile(rb"HTTP/[\d.]+ +(\d{3})(?!\d)")
_CONTENT_RANGE: Final = re.compile(r"bytes (\d{1,19})-(\d{1,19})/(\d{1,19}|\*)", re.ASCII | re.IGNORECASE)
_SCHEME: Final = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_ABSOLUTE: Final = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*:)?//[^/?#]")
_URL_SAFE: Final = "!#$%&'()*+,-./:;=?@[]_~"
"""What stays as it is in a redirect's target; other bytes are percent-encoded, as libcurl does."""


class Head(NamedTuple):
    """The status of an answer and its header fields, in the order in which they came.

    Attributes:
        status: Three digits; 0 if there was no status.
        fields: Names in small letters, and values; Latin-1, which keeps every byte.
    """

    status: int
    fields: tuple[tuple[str, str], ...]

    def get(self, name: str) -> str | None:
        """Return the first value of a field, or None."""
        return next((value for other, value in self.fields if other == name), None)

    def get_all(self, name: str) -> set[str]:
        """Return the different values of a field."""
        return {value for other, value in self.fields if other == name}


def find_status(lines: Iterable[bytes]) -> int:
    """Return the status of the last head among some lines, or 0."""
    found = [match for line in lines if (match := _STATUS_LINE.match(line)) is not None]
    return int(found[-1][1]) if found else 0


def parse_head(lines: Iterable[bytes]) -> Head:
    """Return the last head among some lines, without what followed its empty line."""
    status, is_open = 0, False
    fields: list[tuple[str, str]] = []
    for line in lines:
        text = line.decode("latin-1").rstrip("\r\n")
        if text.startswith("HTTP/"):
            match = _STATUS_LINE.match(line)
            status, fields, is_open = int(match[1]) if match else 0, [], True
        elif not text:
            is_open = False
        elif is_open:
            name, _, value = text.partition(":")
            fields.append((name.strip().lower(), value.strip()))
    return Head(status, tuple(fields))


class Mark(NamedTuple):
    """What tells one body at a URL from another.

    Attributes:
        total: Its size in bytes, if the server said so.
        etag: As received, if it was.
        last_modified: The same.
    """

    total: int | None
    etag: str | None
    last_modified: str | None

    def contradicts(self, other: Mark) -> bool:
        """Return whether both cannot be of the same body."""
        return any(a is not None and b is not None and a != b for a, b in zip(self, other, strict=True))


def mark_of(head: Head) -> Mark:
    """Return the mark of the body that an answer brings, or brings a part of."""
    found = _parse_range(head)
    if head.status == PARTIAL_CONTENT:
        total = found[2] if found else None
    else:
        total = parse_length(head.get("content-length")) if head.get("transfer-encoding") is None else None
    return Mark(total, head.get("etag"), head.get("last-modified"))


MAX_LENGTH: Final = (1 << 63) - 1
"""A longer body cannot be announced: one that seems to be ends with its connection, as libcurl has it."""


def parse_length(text: str | None) -> int | None:
    """Return the number that a Content-Length field is, or None for anything else."""
    return int(text[:20]) if text is not None and text.isascii() and text.isdigit() else None


def _parse_range(head: Head) -> tuple[int, int, int | None] | None:
    """Return first byte, last byte and size of the whole, from a Content-Range, or None.

    Format: RFC 9110, 14.4.
    """
    match = _CONTENT_RANGE.fullmatch(head.get("content-range") or "")
    if match is None or len(head.get_all("content-range")) != 1:
        return None
    first, last, total = int(match[1]), int(match[2]), None if match[3] == "*" else int(match[3])
    is_possible = first <= last and (total is None or last < total)
    return (first, last, total) if is_possible else None


def check_rest(head: Head, offset: int, before: Mark | None, url: str, asked: str | None = None) -> None:
    """Check that an answer brings the rest of a body: all of it, and of the same body.

    Args:
        head: The answer.
        offset: Number of bytes received so far.
        before: What was said about the body when it began.
        url: For the message.
        asked: The URL that was answered, if redirects have led to it.

    Raises:
        ResumeError: It brings something else.
        HTTPStatusError: It has a status that has nothing to do with parts of bodies.
    """
    if head.status not in {OK, PARTIAL_CONTENT, _RANGE_NOT_SATISFIABLE}:
        raise status_error(head, url, asked)
    found = _parse_range(head)
    if head.status != PARTIAL_CONTENT or found is None or found[0] != offset:
        raise ResumeError("the server does not send the rest", url)
    first, last, total = found
    length = parse_length(head.get("content-length"))
    if (total is not None and last + 1 != total) or length not in {None, last + 1 - first}:
        raise ResumeError("the server does not send all of the rest", url)
    if before is not None and before.contradicts(mark_of(head)):
        raise ResumeError("the file on the server has changed", url)


def status_error(head: Head, url: str, asked: str | None = None) -> TransferError:
    """Return the error for an answer whose status is not the one that was hoped for.

    Args:
        head: The answer.
        url: What was asked for in the first place.
        asked: Where redirects have led; None is nowhere.
    """
    if not head.status:
        return MalformedAnswerError("the server did not send an HTTP status", url)
    return HTTPStatusError(
        url,
        head.status,
        parse_retry_after(head.get("retry-after")),
        fields=head.fields,
        answered_by=origin_of(asked or url),
    )


def find_redirect(head: Head, asked: str, url: str) -> str | None:
    """Return where an answer sends us, or None if it does not.

    User name and password stay with the server that they were given for.

    Args:
        head: The answer.
        asked: The URL that was requested, with credentials.
        url: What was asked for in the first place, for the message.

    Raises:
        RedirectError: It sends us to where we do not go, or to nothing that can be understood.
    """
    targets = head.get_all("location") if head.status in REDIRECTS else set()
    if not any(targets):
        return None
    if len(targets) > 1:
        raise RedirectError("refused to follow a redirect with several targets", url)
    bare, _, _ = split_credentials(asked)
    joined = _join(bare, targets.pop(), url)
    if bare.lower().startswith("https:") and not joined.lower().startswith("https:"):
        raise RedirectError(f"refused to follow a redirect from https to {redact_url(joined)}", url)
    if origin_of(joined) == origin_of(bare) and bare != asked and split_credentials(joined)[0] == joined:
        authority = asked.partition("://")[2].partition("/")[0].rpartition("@")[0]
        scheme, separator, rest = joined.partition("://")
        return f"{scheme}{separator}{authority}@{rest}"
    return joined


def _join(base: str, target: str, url: str) -> str:
    """Return the URL that a redirect's target is, seen from another."""
    text = quote_from_bytes(target.encode("latin-1"), safe=_URL_SAFE)
    # Libraries differ in what they make of "http:x" and "///x", so such redirects are refused.
    is_absolute = text.startswith("//") or _SCHEME.match(text) is not None
    has_odd_slashes = is_absolute and not _ABSOLUTE.match(text)
    if has_odd_slashes or any(character < " " or character == "\x7f" for character in target):
        raise RedirectError(f"refused to follow a redirect: '{text}' is not a URL", url)
    try:
        joined = urljoin(base, text).partition("#")[0]
        check_url(joined)
    except (ValueError, InvalidURLError) as error:
        raise RedirectError(f"refused to follow a redirect: {error}", url) from error
    return joined
