"""Pull and copy artifacts about an image, such as signatures and lists of what it contains.

An artifact names the manifest that it is about, its subject, by digest. Lists of artifacts are not
trusted: what names another subject is left out. Artifacts may be about artifacts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import describe
from cfsctl.oci.context import naming
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import ManifestError, parse_manifest
from cfsctl.oci.media_types import MANIFEST
from cfsctl.oci.pull import pull
from cfsctl.oci.source import ImageNotFoundError, IndexedSource
from cfsctl.oci.sources.listed import listed_source
from cfsctl.oci.store.referrers import add_referrer
from cfsctl.progress import Message

if TYPE_CHECKING:
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.pull import PullResult
    from cfsctl.oci.source import ImageSource
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository

MAX_REFERRERS: Final = 1024
"""Most artifacts about an image, and about these."""


class Subject(NamedTuple):
    """Something that artifacts may be about.

    Attributes:
        digest: What the source calls it.
        stored: What it is stored as, which is another digest for an image in Docker's format.
    """

    digest: OciDigest
    stored: OciDigest


def pull_referrers(
    repository: Repository, source: ImageSource, subjects: list[Subject], reporter: Reporter
) -> list[OciDigest]:
    """Pull what is about stored manifests and indexes, and what is about that; return it.

    Args:
        repository: Where everything is stored.
        source: Where it comes from.
        subjects: What it is about.
        reporter: Told what is left out.

    Raises:
        ReceivedDigestError, FormatError: Something is not valid; what came before is kept.
        ManifestError: There is too much.
    """
    if not isinstance(source, IndexedSource):
        reporter(Message(f"{source.name}: images there have no referrers"))
        return []
    with naming(source.name):
        return _pull_all(repository, source, subjects, reporter)


def _pull_all(
    repository: Repository, source: ImageSource, subjects: list[Subject], reporter: Reporter
) -> list[OciDigest]:
    assert isinstance(source, IndexedSource)
    found: list[OciDigest] = []
    waiting, seen = list(subjects), {subject.digest for subject in subjects}
    while waiting:
        subject = waiting.pop(0)
        for descriptor in source.list_referrers(subject.digest):
            if descriptor.digest in seen:
                continue
            seen.add(descriptor.digest)
            if len(seen) - len(subjects) > MAX_REFERRERS:
                raise ManifestError(
                    f"expected at most {MAX_REFERRERS} referrers, found more",
                    hint="leave --with-referrers out",
                )
            if _pull_one(repository, source, subject, descriptor, reporter):
                found.append(descriptor.digest)
                waiting.append(Subject(descriptor.digest, descriptor.digest))
    return found


def add_referrers(
    repository: Repository, source: ImageSource, result: PullResult, reporter: Reporter
) -> PullResult:
    """Pull what is about an image that was pulled; return the result with it. See `pull_referrers`."""
    subject = Subject(result.original or result.manifest_digest, result.manifest_digest)
    return replace(result, referrers=tuple(pull_referrers(repository, source, [subject], reporter)))


def _pull_one(
    repository: Repository, source: ImageSource, subject: Subject, descriptor: Descriptor, reporter: Reporter
) -> bool:
    """Pull one artifact if it is about the subject; return whether it is."""
    assert isinstance(source, IndexedSource)
    what = f"referrer {descriptor.digest}"
    if descriptor.media_type != MANIFEST:
        reporter(Message(f"{what}: left out: expected a manifest, found {descriptor.media_type}"))
        return False
    try:
        data = source.read_listed(descriptor, "referrer")
    except ImageNotFoundError as error:
        reporter(Message(f"{what}: left out: {describe(error)}"))
        return False
    claimed = parse_manifest(data, what).subject
    if claimed is None or claimed.digest != subject.digest:
        about = "nothing" if claimed is None else str(claimed.digest)
        reporter(Message(f"{what}: left out: expected {subject.digest} as its subject, found {about}"))
        return False
    listed = listed_source(source, convert_manifest(descriptor, data))
    pulled = pull(repository, listed, as_it_is=True, reporter=reporter)
    add_referrer(repository, subject.stored, pulled.manifest_digest)
    return True
