"""Choosing how a repository in a directory is read."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.ostree.sources.local import LocalSource

if TYPE_CHECKING:
    from cfsctl.ostree.trust.policy import TrustPolicy


def open_local(path: str, trust: TrustPolicy | None) -> LocalSource:
    """Return the repository in a directory, read by its summary if that must be signed.

    Raises:
        NotAnOstreeRepositoryError, UnsupportedModeError, RepositoryInUseError: As `LocalSource`.
    """
    if trust is not None and trust.summaries:
        from cfsctl.ostree.sources.local_summary import SignedLocalSource  # few pulls demand it

        return SignedLocalSource(path, trust)
    return LocalSource(path)
