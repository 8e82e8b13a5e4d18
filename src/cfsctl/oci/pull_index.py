"""Pull an index whole: the images for all platforms, and what else it lists.

Each image is pulled like any other, with its compressed layers, so that it can be pushed again as it came.
Then the index is stored, byte for byte, and the tag moves to it last. An image of which no file system image
can be made, such as one for another system, is stored without.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from cfsctl.json_fields import parse_object
from cfsctl.oci.context import naming
from cfsctl.oci.digest import OciDigest, compute_digest
from cfsctl.oci.docker import convert_manifest
from cfsctl.oci.manifest import Platform, parse_index
from cfsctl.oci.media_types import INDEX, INDEXES, MANIFEST, MANIFESTS
from cfsctl.oci.pull import PullResult, pull
from cfsctl.oci.referrers import Subject, pull_referrers
from cfsctl.oci.source import IndexedSource, SourceError
from cfsctl.oci.sources.listed import listed_source
from cfsctl.oci.store.indexes import check_manifest_count, check_nesting, store_index, tag_index
from cfsctl.oci.store.layer_writer import ImportCounts
from cfsctl.oci.store.names import check_tag
from cfsctl.progress import Message, silent

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.oci.source import ImageSource
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository


class PulledMember(NamedTuple):
    """An image or artifact of an index.

    Attributes:
        platform: What the index says that it runs on, or None.
        result: What was pulled.
    """

    platform: Platform | None
    result: PullResult


@dataclass(frozen=True, slots=True)
class IndexPullResult:
    """What the pull of an index has done.

    Attributes:
        digest: The index.
        stream_id: Its splitstream object.
        tag: The tag that names it, or None.
        members: The images and artifacts that it leads to, each once.
        referrers: Artifacts about the index and its images, if they were asked for.
    """

    digest: OciDigest
    stream_id: ObjectID
    tag: str | None
    members: tuple[PulledMember, ...]
    referrers: tuple[OciDigest, ...] = ()

    @property
    def counts(self) -> ImportCounts:
        """What became of the contents of all layers that were fetched."""
        counts = ImportCounts()
        for member in self.members:
            counts = counts.plus(member.result.counts)
        return counts


def find_named_index(source: ImageSource) -> tuple[Descriptor, bytes] | None:
    """Return the index that a source leads to, or None if it leads to a single image.

    Raises:
        ImageNotFoundError: It does not exist.
        FormatError: It is not valid.
    """
    if not isinstance(source, IndexedSource):
        return None
    with naming(source.name):
        descriptor, data = source.read_named()
    return (descriptor, data) if descriptor.media_type in INDEXES else None


class IndexPull:
    """The pull of one index.

    Attributes:
        subjects: What has been stored, as artifacts may be about it.
    """

    def __init__(
        self,
        repository: Repository,
        source: ImageSource,
        reporter: Reporter = silent,
        workers: int | None = None,
    ) -> None:
        """Fetch nothing yet.

        Args:
            repository: Where it goes.
            source: Where it is; one that has indexes.
            reporter: Told how far each layer is.
            workers: As for `pull`.
        """
        assert isinstance(source, IndexedSource)
        self._repository = repository
        self._source = source
        self._documents: IndexedSource = source
        self._report = reporter
        self._workers = workers
        self._members: dict[OciDigest, PulledMember] = {}
        self._done: dict[OciDigest, _Stored] = {}
        self._indexes = 0
        self.subjects: list[Subject] = []

    def run(self, descriptor: Descriptor, data: bytes) -> IndexPullResult:
        """Pull an index whose digest has been checked; see `pull` for errors."""
        self._repository.check_writable()
        with naming(self._source.name):
            stored = self._store_index(descriptor, data, 1)
        if stored.digest != descriptor.digest:
            self._report(
                Message(
                    f"the index {descriptor.digest} with manifests in Docker's format is stored as"
                    f" {stored.digest}"
                )
            )
        stream_id = store_index(self._repository, stored.digest, stored.data)
        return IndexPullResult(stored.digest, stream_id, None, tuple(self._members.values()))

    def add_referrers(self, result: IndexPullResult) -> IndexPullResult:
        """Pull what is about the index and its images; return the result with it."""
        found = pull_referrers(self._repository, self._source, self.subjects, self._report)
        return replace(result, referrers=tuple(found))

    def _store_index(self, descriptor: Descriptor, data: bytes, depth: int) -> _Stored:
        """Pull all that an index lists, then store it."""
        what = f"index {descriptor.digest}"
        entries = parse_index(data, what)
        stored = [self._store_entry(entry, depth) for entry in entries]
        if descriptor.media_type != INDEX or any(
            new.digest != old.digest for new, old in zip(stored, entries, strict=True)
        ):
            data = _convert_index(data, what, stored)
        digest = compute_digest(data) if _is_other(data, descriptor) else descriptor.digest
        store_index(self._repository, digest, data)
        self.subjects.append(Subject(descriptor.digest, digest))
        return _Stored(INDEX, digest, len(data), data)

    def _store_entry(self, entry: Descriptor, depth: int) -> _Stored:
        done = self._done.get(entry.digest)
        if done is None:
            done = self._done[entry.digest] = self._pull_entry(entry, depth)
        return done

    def _pull_entry(self, entry: Descriptor, depth: int) -> _Stored:
        if entry.media_type in INDEXES:
            self._indexes += 1
            check_nesting(entry.digest, depth, self._indexes)
            return self._store_index(entry, self._documents.read_listed(entry, "index"), depth + 1)
        if entry.media_type not in MANIFESTS:
            raise SourceError(
                f"manifest {entry.digest}: Unexpected media type {entry.media_type}",
                hint="pull the image of one platform with --platform",
            )
        check_manifest_count(len(self._members) + 1, entry.digest)
        found = convert_manifest(entry, self._documents.read_listed(entry, "manifest"))
        result = pull(
            self._repository,
            listed_source(self._source, found),
            keep_compressed=True,
            as_it_is=True,
            workers=self._workers,
            reporter=self._report,
        )
        self._members[result.manifest_digest] = PulledMember(entry.platform, result)
        self.subjects.append(Subject(entry.digest, result.manifest_digest))
        return _Stored(MANIFEST, found.digest, len(found.data), found.data)


class _Stored(NamedTuple):
    media_type: str
    digest: OciDigest
    size: int
    data: bytes


def _is_other(data: bytes, descriptor: Descriptor) -> bool:
    """Return whether a document is not the one that was described: it has been converted."""
    computed = descriptor.digest.new_hash()
    computed.update(data)
    return computed.hexdigest() != descriptor.digest.encoded


def _convert_index(data: bytes, what: str, stored: list[_Stored]) -> bytes:
    """Return an index in OCI's form that names what its entries are stored as; all else is kept."""
    document = parse_object(data, what).to_dict()
    entries = parse_object(data, what).get_list_of_fields("manifests")
    document["mediaType"] = INDEX
    document["manifests"] = [
        {**fields.to_dict(), "mediaType": new.media_type, "digest": str(new.digest), "size": new.size}
        for fields, new in zip(entries, stored, strict=True)
    ]
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def tag_pulled(repository: Repository, result: IndexPullResult, tag: str) -> IndexPullResult:
    """Move a tag to an index that was pulled; return the result with it."""
    tag_index(repository, result.digest, check_tag(tag))
    return replace(result, tag=tag)
