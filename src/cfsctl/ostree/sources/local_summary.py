"""An OSTree repository in a directory whose summary must be signed; its ref files are then not used."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.linux.files import open_regular, read_all
from cfsctl.ostree.source import check_ref_name, ref_not_found
from cfsctl.ostree.sources.local import LocalSource
from cfsctl.ostree.summary.format import MAX_SUMMARY_SIZE, Summary, SummaryError, parse_summary
from cfsctl.ostree.trust.policy import verify
from cfsctl.ostree.trust.summary_age import check_summary_age
from cfsctl.ostree.trust.verdict import SignatureError

if TYPE_CHECKING:
    from cfsctl.digest import Checksum
    from cfsctl.ostree.trust.policy import TrustPolicy


class SignedLocalSource(LocalSource):
    """A repository in a directory that is read by its summary, as one on a server is."""

    def __init__(self, path: str, trust: TrustPolicy) -> None:
        """Open the repository; see `LocalSource`.

        Args:
            path: Where it is.
            trust: What its summary has to prove.
        """
        super().__init__(path)
        self._trust = trust
        self._summary: Summary | None = None

    def check_summary(self) -> None:
        """Check the signatures of the summary; see `RemoteSource.check_summary`.

        Raises:
            SignatureError: It is not by a key that counts, or none exists.
            SummaryError: It is invalid or has expired.
        """
        self._read_summary()

    def resolve_ref(self, name: str) -> Checksum:
        """Return the commit that the summary names; see `RemoteSource.resolve_ref`."""
        check_ref_name(name)
        ref = self._read_summary().refs.get(name)
        if ref is None:
            from cfsctl.repository.names.names import suggest  # only for those who mistype

            hint = suggest(name, self.list_refs())
            raise ref_not_found(name, f"the summary of {self.description}", hint=hint)
        return ref.checksum

    def list_refs(self) -> dict[str, Checksum]:
        """Return the refs that the summary names, sorted by name."""
        refs = self._read_summary().refs
        return {name: refs[name].checksum for name in sorted(refs)}

    def _read_summary(self) -> Summary:
        if self._summary is None:
            what = f"summary of {self.description}"
            data = self._read_file("summary")
            if data is None:
                raise SignatureError(f"{what}: expected a signed one, found none")
            verify(what, data, self._read_file("summary.sig"), self._trust, self._trust.summaries)
            try:
                summary = parse_summary(data)
            except SummaryError as error:
                raise SummaryError(f"{what}: {error}", offset=error.offset, field=error.field) from error
            check_summary_age(what, summary, None, "", allow_older=True)
            self._summary = summary
        return self._summary

    def _read_file(self, name: str) -> bytes | None:
        """Return a file of the repository itself, or None if there is no such file."""
        try:
            fd = open_regular(self.repositories[0].root(), name)
        except FileNotFoundError:
            return None
        try:
            return read_all(fd, MAX_SUMMARY_SIZE)
        finally:
            os.close(fd)
