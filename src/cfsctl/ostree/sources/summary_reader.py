"""Read the summary of a server, whole or for a subset; verify it and refuse older ones.

If a summary must be signed, nothing in it is used before its signatures are verified. If the signatures of a
cached summary are no longer valid, it is fetched again. For a subset, the index is signed; it contains the
checksum of the summary.
"""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.errors import CfsError, RefNotFoundError
from cfsctl.ostree.source import SourceError
from cfsctl.ostree.summary.format import MAX_SUMMARY_SIZE, Summary, SummaryError, parse_summary

if TYPE_CHECKING:
    from cfsctl.ostree.summary.cache import SummaryCache
    from cfsctl.ostree.trust.policy import TrustPolicy

_HTML: Final = rb"(\xef\xbb\xbf)?\s*(<!--.{0,4096}?-->\s*)?<(!doctype|\?xml|html|head|body|title|error)\b"
_HTML_HINT: Final = "the server answered with a web page: log in to the network, or check the URL"


class NoSummaryError(SourceError):
    """A server without a summary, where only that can answer."""

    exit_code = RefNotFoundError.exit_code


class FindDocument(Protocol):
    """Fetches a small file of the repository, as `RemoteSource.find_document` does."""

    def __call__(
        self,
        path: str,
        name: str,
        limit_bytes: int,
        cache: SummaryCache | None = None,
        cached: list[bytes] | None = None,
        /,
    ) -> bytes | None:
        """Return the file, or None if the server does not have it."""


def explain_page(data: bytes) -> str | None:
    """Return what a user should know if this is a web page, in place of what was asked for."""
    return _HTML_HINT if re.match(_HTML, data, re.IGNORECASE | re.DOTALL) else None


class SummaryReader:
    """Reads the summary of one server, as often as it is asked for."""

    def __init__(
        self,
        find_document: FindDocument,
        server: str,
        url: str,
        *,
        trust: TrustPolicy | None,
        cache: SummaryCache | None,
        subset: str | None,
        allow_older: bool,
    ) -> None:
        """Read nothing yet.

        Args:
            find_document: Fetches a file.
            server: What messages call the server.
            url: The server's first URL, under which the age of the latest summary is remembered.
            trust: What the summary has to prove.
            cache: Summaries that were fetched before, or None.
            subset: Read the summary of this subset, or None for the whole one.
            allow_older: Take a verified summary that is older than the latest one in the cache.
        """
        self._find_document = find_document
        self._server = server
        self._url = url
        self._trust = trust
        self._cache = cache
        self._subset = subset
        self._allow_older = allow_older

    @property
    def must_verify(self) -> bool:
        """Whether the summary must be signed."""
        return self._trust is not None and bool(self._trust.summaries)

    def read(self) -> Summary | None:
        """Return the summary, or None if the server has none.

        Raises:
            NoSummaryError: The server has no summary of that subset.
            SummaryError: What the server has is not a summary, or an older one.
            SignatureError: It must be signed, and is not by a key that counts.
            TransferError: The server did not answer as it should.
        """
        summary = self._read_whole() if self._subset is None else self._read_subset(self._subset)
        if summary is not None and self.must_verify:
            self._check_age(summary)
        return summary

    def _check_age(self, summary: Summary) -> None:
        from cfsctl.ostree.trust.summary_age import check_summary_age  # see `_verify_bytes`

        what, where = f"summary of {self._server}", self._url
        if self._subset is not None:
            what, where = f"{what}, subset '{self._subset}'", f"{where}#{self._subset}"
        check_summary_age(what, summary, self._cache, where, allow_older=self._allow_older)

    def _read_whole(self) -> Summary | None:
        cached: list[bytes] = []
        data = self._find_document("summary", "summary", MAX_SUMMARY_SIZE, self._cache, cached)
        try:
            return self._check(data)
        except CfsError:
            if not cached:
                raise
        return self._check(self._find_document("summary", "summary", MAX_SUMMARY_SIZE))

    def _read_subset(self, subset: str) -> Summary:
        from cfsctl.ostree.summary.index import (  # most summaries are whole
            INDEX_PATH,
            MAX_INDEX_BYTES,
            find_subset,
            parse_index,
            unpack_subsummary,
        )

        index = self._find_document(INDEX_PATH, INDEX_PATH, MAX_INDEX_BYTES)
        what = f"{INDEX_PATH} of {self._server}"
        if index is None:
            raise NoSummaryError(f"no {INDEX_PATH} available from remote {self._server}")
        if self.must_verify:
            path = f"summaries/{hashlib.sha256(index).hexdigest()}.idx.sig"
            signatures = self._find_signatures(path, MAX_INDEX_BYTES)
            if signatures is None:
                signatures = self._find_signatures(f"{INDEX_PATH}.sig", MAX_INDEX_BYTES)
            self._verify_bytes(what, index, signatures)
        try:
            checksum = find_subset(parse_index(index), subset, what)
            path = f"summaries/{checksum.hex()}.gz"
            data = self._find_document(path, path, MAX_SUMMARY_SIZE)
            if data is None:
                raise NoSummaryError(f"summary of subset '{subset}' is missing from {self._server}")
            return self._parse(unpack_subsummary(data, checksum))
        except SummaryError as error:
            hint = explain_page(index) or error.hint
            raise SummaryError(
                f"{what}: {error}", offset=error.offset, field=error.field, hint=hint
            ) from error

    def _check(self, data: bytes | None) -> Summary | None:
        if self.must_verify:
            self._verify(data)
        return None if data is None else self._parse(data)

    def _verify(self, data: bytes | None) -> None:
        """Check the signatures of the summary, byte by byte as it came."""
        from cfsctl.ostree.trust.verdict import SignatureError  # most pulls verify none

        what = f"summary of {self._server}"
        if data is None:
            raise SignatureError(f"{what}: expected a signed one, found none")
        self._verify_bytes(what, data, self._find_signatures("summary.sig", MAX_SUMMARY_SIZE))

    def _find_signatures(self, path: str, limit_bytes: int) -> bytes | None:
        """Return a file of signatures, or None if the server has none, or a page that says so with 200."""
        data = self._find_document(path, path, limit_bytes)
        return None if data is None or explain_page(data) else data

    def _verify_bytes(self, what: str, data: bytes, signatures: bytes | None) -> None:
        """Check signatures over the bytes of a summary or an index."""
        from cfsctl.ostree.trust.policy import verify  # most pulls verify none

        assert self._trust is not None
        verify(what, data, signatures, self._trust, self._trust.summaries)

    def _parse(self, data: bytes) -> Summary:
        try:
            return parse_summary(data)
        except SummaryError as error:
            raise SummaryError(
                f"summary of {self._server}: {error}",
                offset=error.offset,
                field=error.field,
                hint=explain_page(data),
            ) from error
