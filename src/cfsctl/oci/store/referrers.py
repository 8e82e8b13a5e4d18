"""Referrers: artifacts that are about a stored manifest, such as signatures, found by the manifest's digest.

    streams/refs/oci-referrers/<digest of the manifest>/<digest of the artifact>    names the artifact

Such a link protects its artifact from collection; removing an image also removes its referrers.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.oci.digest import OciDigest, OciDigestError, parse_digest
from cfsctl.oci.store.names import INDEX, MANIFEST
from cfsctl.repository.names.tags import escape_tag, unescape_tag

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.repository import Repository

_DIRECTORY: Final = "oci-referrers"


def _ref(subject: OciDigest, artifact: OciDigest) -> str:
    return f"{_DIRECTORY}/{escape_tag(str(subject))}/{escape_tag(str(artifact))}"


def add_referrer(repository: Repository, subject: OciDigest, artifact: OciDigest) -> None:
    """Record that a stored artifact is about a manifest, which need not be stored.

    Raises:
        RefNotFoundError: The artifact is not stored.
    """
    repository.streams.set_ref(_ref(subject, artifact), f"{MANIFEST}{artifact}")


def list_referrers(repository: Repository, subject: OciDigest) -> list[OciDigest]:
    """Return the artifacts about a manifest, ascending; links whose names are not digests are skipped."""
    refs = repository.streams.list_refs(f"{_DIRECTORY}/{escape_tag(str(subject))}")
    return sorted(digest for ref in refs if (digest := _parse(ref.name)) is not None)


def remove_referrer(repository: Repository, subject: OciDigest, artifact: OciDigest) -> None:
    """Forget that an artifact is about a manifest.

    Raises:
        RefNotFoundError: That is not noted.
    """
    repository.streams.remove_ref(_ref(subject, artifact))


def remove_referrers(repository: Repository, subject: OciDigest) -> list[OciDigest]:
    """Forget all artifacts about a manifest; return them."""
    found = list_referrers(repository, subject)
    for artifact in found:
        remove_referrer(repository, subject, artifact)
    return found


def iter_dangling(repository: Repository) -> Iterator[tuple[OciDigest, OciDigest]]:
    """Yield manifest and artifact of each link where one of the two is not stored."""
    for ref in repository.streams.list_refs(_DIRECTORY):
        subject_text, _, artifact_text = ref.name.partition("/")
        subject, artifact = _parse(subject_text), _parse(artifact_text)
        if subject is None or artifact is None:
            continue
        is_kept = _is_stored(repository, subject) and repository.streams.find(f"{MANIFEST}{artifact}")
        if not is_kept:
            yield subject, artifact


def _is_stored(repository: Repository, subject: OciDigest) -> bool:
    """Return whether what an artifact is about is stored: a manifest or an index."""
    find = repository.streams.find
    return find(f"{MANIFEST}{subject}") is not None or find(f"{INDEX}{subject}") is not None


def remove_dangling(repository: Repository) -> int:
    """Remove the links where one of the two is not stored; return how many there were."""
    found = list(iter_dangling(repository))
    for subject, artifact in found:
        remove_referrer(repository, subject, artifact)
    return len(found)


def _parse(text: str) -> OciDigest | None:
    try:
        return parse_digest(unescape_tag(text))
    except OciDigestError:
        return None
