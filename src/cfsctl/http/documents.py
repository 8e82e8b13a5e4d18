"""Small files that may be at any of several addresses, and that may be known from before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.http.errors import MISSING_STATUSES, NOT_MODIFIED, HTTPStatusError, TransferError
from cfsctl.http.mirrors import first_place

if TYPE_CHECKING:
    from cfsctl.http.cache import DocumentCache
    from cfsctl.http.fetcher import Fetcher
    from cfsctl.http.mirrors import Addresses, Place


def find_document(
    fetcher: Fetcher,
    addresses: Addresses,
    path: str,
    name: str,
    limit_bytes: int,
    cache: DocumentCache | None = None,
    cached: list[bytes] | None = None,
) -> bytes | None:
    """Return a small file, or None if no address has it and one says so.

    Args:
        fetcher: What fetches.
        addresses: Where to ask.
        path: Where it is, relative to each address.
        name: What messages call it.
        limit_bytes: Its size at most.
        cache: Where it may be from before, if the server says that it has not changed.
        cached: Gets the content if it is from there.

    Raises:
        TransferError: No address answered as it should.
    """
    place: Place | None = first_place(addresses)
    failure: TransferError | None = None
    is_missing = False
    while place is not None:
        try:
            return _get(fetcher, addresses.url(place.number, path), limit_bytes, cache, cached)
        except TransferError as error:
            if isinstance(error, HTTPStatusError) and error.status in MISSING_STATUSES:
                is_missing = True
            failure = error
            place = place.after(addresses, error)
    if failure is None or is_missing:
        return None
    raise failure.about(name)


def _get(
    fetcher: Fetcher, url: str, limit_bytes: int, cache: DocumentCache | None, cached: list[bytes] | None
) -> bytes:
    """Return a document, from the cache if the server says that it has not changed since."""
    entry = None if cache is None else cache.find(url)
    response = None
    if entry is not None and cached is not None:
        response = fetcher.get(url, limit_bytes=limit_bytes, headers=entry.conditions())
        if response.status == NOT_MODIFIED:
            body = entry.read()
            if body is not None:
                cached.append(body)
                return body
            response = None  # it was removed in the meantime
    if response is None:
        response = fetcher.get(url, limit_bytes=limit_bytes)
    if cache is not None:
        cache.save(url, response)
    return response.body
