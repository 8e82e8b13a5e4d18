"""Push more than one image: an index with all that it lists, and artifacts about what is pushed.

Whatever is named comes before what names it, and the tag last, so nobody who pulls by the tag meets half of
it: not an image without its signatures either.
"""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING

from cfsctl.errors import CfsError, describe
from cfsctl.json_fields import parse_object
from cfsctl.oci.context import naming
from cfsctl.oci.digest import compute_digest
from cfsctl.oci.manifest import Descriptor, ManifestError
from cfsctl.oci.media_types import INDEX
from cfsctl.oci.push import DigestChangedError, ImagePush, PushedManifest, PushResult
from cfsctl.oci.referrers import MAX_REFERRERS
from cfsctl.oci.store.images import open_image, open_manifest_stream
from cfsctl.oci.store.indexes import StoredIndex, iter_listed
from cfsctl.oci.store.referrers import list_referrers
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.oci.destinations.base import ImageDestination
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.store.images import StoredImage
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class WholePush:
    """Pushes an image or index with what belongs to it."""

    def __init__(
        self,
        repository: Repository,
        destination: ImageDestination,
        *,
        with_referrers: bool = False,
        preserve_digests: bool = False,
        reporter: Reporter = silent,
    ) -> None:
        """Push nothing yet.

        Args:
            repository: Where everything is stored.
            destination: Where it goes.
            with_referrers: Push artifacts about what is pushed as well, and those about them.
            preserve_digests: Fail where a manifest would have to change.
            reporter: Told how far it is, and what is left out.
        """
        self._repository = repository
        self._destination = destination
        self._with_referrers = with_referrers
        self._preserve_digests = preserve_digests
        self._report = reporter
        self._push = ImagePush(repository, destination, preserve_digests=preserve_digests, reporter=reporter)
        self._seen: set[OciDigest] = set()
        self._referrers = 0

    def push_image(self, image: StoredImage) -> PushResult:
        """Push an image or artifact; see `cfsctl.oci.push.push` for errors."""
        with naming(self._destination.name):
            pushed = self._push.push_blobs(image)
            self._push_referrers(image.digest, pushed.descriptor.digest)
            self._destination.put_manifest(*pushed)
        return self._result(pushed, image.digest, 1)

    def push_index(self, index: StoredIndex) -> PushResult:
        """Push an index and all that it leads to; see `cfsctl.oci.push.push` for errors."""
        with naming(self._destination.name):
            done: dict[OciDigest, PushedManifest] = {}
            images = 0
            for descriptor, stream_id, inner in iter_listed(self._repository, index):
                if inner is not None:
                    pushed = self._rename_entries(inner, done)
                else:
                    images += 1
                    with naming(f"manifest {descriptor.digest}"):
                        pushed = self._push.push_blobs(
                            open_manifest_stream(self._repository, descriptor.digest, stream_id)
                        )
                done[descriptor.digest] = pushed
                self._push_referrers(descriptor.digest, pushed.descriptor.digest)
                self._destination.put_listed(*pushed)
            pushed = self._rename_entries(index, done)
            self._push_referrers(index.digest, pushed.descriptor.digest)
            self._destination.put_manifest(*pushed)
        return self._result(pushed, index.digest, images)

    def _result(self, pushed: PushedManifest, stored: OciDigest, images: int) -> PushResult:
        counted = self._push.result(pushed.descriptor.digest, stored)
        return replace(counted, images=images, referrers=self._referrers)

    def _rename_entries(self, index: StoredIndex, done: Mapping[OciDigest, PushedManifest]) -> PushedManifest:
        """Return an index that names its entries as they were pushed."""
        data = index.document.data
        media_type = parse_object(data, "index").find_string("mediaType") or INDEX
        if all(done[entry.digest].descriptor.digest == entry.digest for entry in index.entries):
            return PushedManifest(Descriptor(media_type, index.digest, len(data), {}), data)
        if self._preserve_digests:
            raise DigestChangedError(
                f"index {index.digest}: images in it have changed",
                hint="leave --preserve-digests out to push it with another index",
            )
        data = replace_entries(data, {str(old): new.descriptor for old, new in done.items()})
        return PushedManifest(Descriptor(media_type, compute_digest(data), len(data), {}), data)

    def _push_referrers(self, stored: OciDigest, pushed: OciDigest) -> None:
        """Push what is about a manifest; its blobs and manifests, which name it as their subject."""
        if not self._with_referrers:
            return
        waiting = [stored]
        while waiting:
            subject = waiting.pop(0)
            referrers = [one for one in list_referrers(self._repository, subject) if one not in self._seen]
            if referrers and subject == stored and stored != pushed:
                self._report(
                    Message(
                        f"{len(referrers)} referrers of {stored} are left out: its manifest has changed, and"
                        " they are about the one before"
                    )
                )
                return
            for digest in referrers:
                self._seen.add(digest)
                if self._push_referrer(subject, digest):
                    waiting.append(digest)

    def _push_referrer(self, subject: OciDigest, digest: OciDigest) -> bool:
        """Push one artifact about a manifest; return whether that has been done."""
        if self._referrers >= MAX_REFERRERS:
            raise ManifestError(f"expected at most {MAX_REFERRERS} referrers, found more")
        try:
            image = open_image(self._repository, digest)
        except (CfsError, OSError) as error:
            self._report(Message(f"referrer {digest}: left out: {describe(error)}"))
            return False
        claimed = image.manifest.subject
        if claimed is None or claimed.digest != subject:
            self._report(Message(f"referrer {digest}: left out: its subject is not {subject}"))
            return False
        with naming(f"referrer {digest}"):
            pushed = self._push.push_blobs(image)
            descriptor = replace(
                pushed.descriptor,
                artifact_type=image.manifest.artifact_type or image.manifest.config.media_type,
                annotations=image.manifest.annotations,
            )
            self._destination.put_referrer(subject, descriptor, pushed.data)
        self._referrers += 1
        return True


def replace_entries(data: bytes, pushed: Mapping[str, Descriptor]) -> bytes:
    """Return an index that names its entries otherwise; all else is kept.

    Args:
        data: The index.
        pushed: What its entries are now, by their digests before.
    """
    document = parse_object(data, "index").to_dict()
    entries = parse_object(data, "index").get_list_of_fields("manifests")
    document["manifests"] = [
        {
            **fields.to_dict(),
            "digest": str(pushed[fields.get_string("digest")].digest),
            "size": pushed[fields.get_string("digest")].size,
        }
        for fields in entries
    ]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()
