"""Copy a stored index with all that it lists, and artifacts about stored images, to another repository."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.oci.copy import copy_opened
from cfsctl.oci.manifest import ManifestError
from cfsctl.oci.pull_index import IndexPullResult, PulledMember
from cfsctl.oci.referrers import MAX_REFERRERS
from cfsctl.oci.store.images import open_image, open_manifest_stream
from cfsctl.oci.store.indexes import iter_listed, open_index, store_index
from cfsctl.oci.store.referrers import add_referrer, list_referrers
from cfsctl.progress import silent

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.oci.digest import OciDigest
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


def copy_index(
    source: Repository,
    target: Repository,
    digest: OciDigest,
    *,
    zerocopy: bool = False,
    workers: int | None = None,
    reporter: Reporter = silent,
) -> IndexPullResult:
    """Copy an index and all images and artifacts that it leads to; see `cfsctl.oci.copy.copy_image`."""
    target.check_writable()
    index = open_index(source, digest)
    members: list[PulledMember] = []
    for descriptor, stream_id, inner in iter_listed(source, index):
        if inner is not None:
            store_index(target, inner.digest, inner.document.data)
            continue
        image = open_manifest_stream(source, descriptor.digest, stream_id)
        copied = copy_opened(
            source, target, image, None, zerocopy=zerocopy, workers=workers, as_it_is=True, reporter=reporter
        )
        members.append(PulledMember(descriptor.platform, copied))
    stored = store_index(target, digest, index.document.data)
    return IndexPullResult(digest, stored, None, tuple(members))


def copy_referrers(
    source: Repository,
    target: Repository,
    subjects: Iterable[OciDigest],
    *,
    zerocopy: bool = False,
    reporter: Reporter = silent,
) -> list[OciDigest]:
    """Copy what is about manifests and indexes, and what is about that; return it.

    Raises:
        ManifestError: There is too much.
        IntegrityError, FormatError: Something in the source is damaged.
    """
    waiting = list(subjects)
    seen: set[OciDigest] = set()
    while waiting:
        subject = waiting.pop(0)
        for digest in list_referrers(source, subject):
            if digest not in seen:
                seen.add(digest)
                if len(seen) > MAX_REFERRERS:
                    raise ManifestError(f"expected at most {MAX_REFERRERS} referrers, found more")
                image = open_image(source, digest)
                copy_opened(source, target, image, None, zerocopy=zerocopy, as_it_is=True, reporter=reporter)
                waiting.append(digest)
            add_referrer(target, subject, digest)
    return sorted(seen)
