"""The addresses of the same things on the web.

There may be mirrors. If one does not have a file, the next one is tried. If a mirror fails for
any other reason, it is tried last from then on.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Generic, NamedTuple, TypeVar
from urllib.parse import quote, unquote_to_bytes, urlsplit, urlunsplit

from cfsctl.errors import FetchError
from cfsctl.http.errors import MISSING_STATUSES, HTTPStatusError
from cfsctl.http.urls import InvalidURLError, check_url, redact_url

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from cfsctl.errors import CfsError
    from cfsctl.http.errors import TransferError
    from cfsctl.http.fetcher import BodySink, Fetcher

T = TypeVar("T")

MAX_MIRRORLIST_BYTES: Final = 1 << 20
MAX_MIRRORS: Final = 64
"""Addresses of the same things that are used."""

MIRRORLIST: Final = "mirrorlist="
"""Begins the URL of a list of addresses, as libostree has it."""

_BLANKS: Final = " \t\r\f"

_URL_SAFE: Final = "/%:@!$&'()*+,;=~"
"""What stays as it is in the path of a base URL; the user may have encoded some of it already."""


class MirrorlistError(FetchError):
    """A list of addresses that has none."""


class Address(NamedTuple):
    """The root of what has mirrors.

    Attributes:
        base: URL that ends in a slash.
        query: Query that every request has, with its question mark, or empty.
    """

    base: str
    query: str

    def url(self, path: str) -> str:
        """Return the URL of something below the root."""
        return f"{self.base}{path}{self.query}"


def parse_file_url(url: str) -> str | None:
    """Return the directory that a URL of this machine stands for, or None for another URL.

    Only for what the user, or the configuration of a remote, says: no server may name one.

    Raises:
        InvalidURLError: It names a host, or no absolute path.
    """
    if not url.lower().startswith("file:"):
        return None
    parts = urlsplit(url)
    path = os.fsdecode(unquote_to_bytes(parts.path))
    is_bare = not (parts.query or parts.fragment or "\0" in path)
    if parts.netloc.lower() not in {"", "localhost"} or not path.startswith("/") or not is_bare:
        raise InvalidURLError(f"'{redact_url(url)}' is not the URL of a directory: expected file:///PATH")
    return path


def parse_address(url: str) -> Address:
    """Return the address that a URL is.

    Raises:
        InvalidURLError: Not a URL we can fetch from.
    """
    parts = check_url(url)
    path = quote(parts.path.rstrip("/") + "/", safe=_URL_SAFE)
    return Address(
        urlunsplit((parts.scheme, parts.netloc, path, "", "")), f"?{parts.query}" if parts.query else ""
    )


class Addresses:
    """Several addresses of the same things, of which one is the first choice.

    Attributes:
        first: Number of the address that is asked first.
    """

    __slots__ = ("_addresses", "first")

    def __init__(self, addresses: Sequence[Address]) -> None:
        """Prefer the first of at least one address."""
        self._addresses = addresses[:MAX_MIRRORS]
        self.first = 0

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._addresses)

    def url(self, number: int, path: str) -> str:
        """Return the URL of something at one of the addresses."""
        return self._addresses[number].url(path)

    def next_after(self, number: int, error: TransferError) -> int:
        """Return the address to ask after one that failed; remember a failure that others will meet, too."""
        following = (number + 1) % len(self._addresses)
        is_missing = isinstance(error, HTTPStatusError) and error.status in MISSING_STATUSES
        if not is_missing and self.first == number:
            self.first = following
        return following


class Place(NamedTuple):
    """Where a transfer is.

    Attributes:
        number: The address that it uses.
        left: How many addresses are left to ask.
    """

    number: int
    left: int

    def after(self, addresses: Addresses, error: TransferError) -> Place | None:
        """Return where to go on after an error, or None if every address was asked."""
        number = addresses.next_after(self.number, error)
        return Place(number, self.left - 1) if self.left else None


def first_place(addresses: Addresses) -> Place:
    """Return where a transfer begins."""
    return Place(addresses.first, len(addresses) - 1)


class MirroredJob(Generic[T]):
    """The transfer of one named file, from whichever address has it."""

    def __init__(
        self,
        addresses: Addresses,
        path: str,
        name: str,
        limit_bytes: int,
        make_sink: Callable[[], BodySink[T]],
        place: Place | None = None,
    ) -> None:
        """Describe the transfer."""
        self._addresses = addresses
        self._path = path
        self._name = name
        self._place = place or first_place(addresses)
        self.limit_bytes = limit_bytes
        self.make_sink = make_sink
        self.url = addresses.url(self._place.number, path)

    def explain(self, error: TransferError, /) -> CfsError:
        """Return the error with the name of the file."""
        return error.about(self._name)

    def find_other(self, error: TransferError) -> MirroredJob[T] | None:
        """Return a job for the same file at the next address, or None if all were asked."""
        place = self._place.after(self._addresses, error)
        if place is None:
            return None
        return MirroredJob(self._addresses, self._path, self._name, self.limit_bytes, self.make_sink, place)


def resolve_addresses(urls: Sequence[str], fetcher: Fetcher) -> list[Address]:
    """Return the addresses that some URLs stand for; a ``mirrorlist=`` is fetched.

    Raises:
        InvalidURLError: A URL that we cannot fetch from.
        MirrorlistError: A list without addresses.
        TransferError: The list cannot be had.
    """
    found: list[Address] = []
    for url in urls:
        if url.startswith(MIRRORLIST):
            found += _read_mirrorlist(url.removeprefix(MIRRORLIST), fetcher)
        else:
            found.append(parse_address(url))
    return list(dict.fromkeys(found))


def _read_mirrorlist(url: str, fetcher: Fetcher) -> list[Address]:
    """Return the addresses of a list, one a line; comments (``#``) and other schemes are skipped."""
    check_url(url)
    text = fetcher.get(url, limit_bytes=MAX_MIRRORLIST_BYTES).body.decode("utf-8", "replace")
    # Only newlines end lines, and only ASCII blanks are stripped: str.splitlines does more.
    lines = [line.strip(_BLANKS) for line in text.split("\n")]
    addresses = [parse_address(line) for line in lines if line.startswith(("http://", "https://"))]
    if not addresses:
        raise MirrorlistError(
            f"mirrorlist {redact_url(url)}: expected at least one http or https URL, found none"
        )
    return addresses
