"""Artifacts about an image in a registry: by the referrers API, or by the tag that stands in for it.

GET /v2/NAME/referrers/DIGEST       an index of artifacts, in one or more pages
GET /v2/NAME/manifests/sha256-HEX   the same, in a registry without that API; clients keep it up to date
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from urllib.parse import urljoin

from cfsctl.errors import CfsError
from cfsctl.http.errors import HTTPStatusError
from cfsctl.http.urls import check_url, origin_of
from cfsctl.json_fields import MAX_DOCUMENT_BYTES
from cfsctl.oci.manifest import MAX_LAYERS, ManifestError, parse_index
from cfsctl.oci.media_types import INDEX
from cfsctl.oci.source import ImageNotFoundError, SourceError

if TYPE_CHECKING:
    from cfsctl.http.fetcher import Response
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.registry.client import RegistryClient

_MAX_PAGES: Final = 64
_NEXT: Final = re.compile(r'\s*<([^<>]+)>\s*;[^,]*\brel="?next"?')
_UNSUPPORTED: Final = frozenset({400, 404, 405, 406, 501})
"""How registries answer that do not know the API."""


def fallback_tag(subject: OciDigest) -> str:
    """Return the tag of the list of artifacts about a manifest, where the registry keeps none."""
    return f"{subject.algorithm}-{subject.encoded}"[:128]


def list_referrers(client: RegistryClient, subject: OciDigest) -> list[Descriptor]:
    """Return the artifacts that a registry says are about a manifest; nothing of it has been checked.

    Raises:
        FormatError: The list is not valid.
        AccessDeniedError: It is not for us.
        TransferError: It could not be had.
    """
    found = _list_by_api(client, subject)
    if found is not None:
        return found
    fallback = read_fallback(client, subject)
    return [] if fallback is None else list(parse_index(fallback, f"referrers of {subject}"))


def read_fallback(client: RegistryClient, subject: OciDigest) -> bytes | None:
    """Return the index by the tag that stands in for the API, or None if there is none."""
    try:
        return client.get_manifest(fallback_tag(subject), MAX_DOCUMENT_BYTES).body
    except ImageNotFoundError:
        return None


def _list_by_api(client: RegistryClient, subject: OciDigest) -> list[Descriptor] | None:
    """Return all pages of the list, or None if the registry does not have the API."""
    what = f"referrers of {subject}"
    url: str | None = client.url(f"referrers/{subject}")
    found: list[Descriptor] = []
    for _ in range(_MAX_PAGES):
        assert url is not None
        try:
            response = client.get(url, what, MAX_DOCUMENT_BYTES, {"Accept": INDEX})
        except CfsError as error:
            if not found and _is_unsupported(error):
                return None
            raise
        if not found and not _is_index(response):
            return None  # a page for people, of a server that answers anything
        found += parse_index(response.body, what)
        if len(found) > MAX_LAYERS:
            raise ManifestError(f"{what}: expected at most {MAX_LAYERS}, found more")
        url = _find_next(response, url)
        if url is None:
            return found
    raise ManifestError(f"{what}: expected at most {_MAX_PAGES} pages, found more")


def _is_unsupported(error: CfsError) -> bool:
    if isinstance(error, ImageNotFoundError):
        return True
    return isinstance(error, HTTPStatusError) and error.status in _UNSUPPORTED


def _is_index(response: Response) -> bool:
    said = (response.fields.get("content-type") or "").partition(";")[0].strip().lower()
    return said in {"", INDEX, "application/json"}


def _find_next(response: Response, url: str) -> str | None:
    """Return the URL of the next page, or None; never at another server.

    Raises:
        SourceError, InvalidURLError: It is at another server, or nowhere.
    """
    match = _NEXT.match(response.fields.get("link") or "")
    if match is None:
        return None
    try:
        following: str = urljoin(url, match[1])
    except ValueError:
        raise SourceError(f"referrers: the next page has an invalid URL, {match[1][:200]!r}") from None
    check_url(following)
    if origin_of(following) != origin_of(url):
        raise SourceError(f"referrers: {origin_of(url)[1]} leads to another server, {following[:200]!r}")
    return following
