"""URLs of repositories: what is accepted, whose credentials go where, and how they are shown.

Nothing here opens a socket.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, TypeAlias
from urllib.parse import SplitResult, urlsplit, urlunsplit

from cfsctl.errors import ExitCode, FetchError

if TYPE_CHECKING:
    from collections.abc import Iterable

Origin: TypeAlias = tuple[str, str, int]
"""Scheme, host and port."""


class InvalidURLError(FetchError):
    """Text that is not a URL of a repository."""

    exit_code = ExitCode.USAGE


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
