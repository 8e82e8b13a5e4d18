"""Stored indexes: one name for the images of several platforms, kept byte for byte.

    streams/oci-index-<digest>    the index; its stream refers to the streams of all that the index lists

The references have the digests of the manifests and indexes as their names, and are sorted by them. The
reference implementation plans to store indexes in this way; until then it ignores these streams and tags, but
collects nothing that they lead to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError, IntegrityError
from cfsctl.oci.manifest import ManifestError, parse_index
from cfsctl.oci.media_types import INDEXES
from cfsctl.oci.store.documents import StoredDocument, find_only_object, read_document, write_document
from cfsctl.oci.store.names import INDEX, INDEX_TAGS, MANIFEST, iter_digests
from cfsctl.repository.objects.store import StoredObject
from cfsctl.repository.publish import NewStream, publish
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.oci.manifest import Descriptor
    from cfsctl.repository import Repository

MAX_DEPTH: Final = 8
"""Deepest index that is looked into."""

MAX_INDEXES: Final = 64
"""Most indexes below one."""

MAX_MANIFESTS: Final = 4096
"""Most images and artifacts of an index and of those below it."""


class StoredIndex(NamedTuple):
    """An index as it is stored.

    Attributes:
        digest: Its digest.
        entries: What it lists.
        document: The document.
    """

    digest: OciDigest
    entries: tuple[Descriptor, ...]
    document: StoredDocument

    def find_stream(self, descriptor: Descriptor) -> ObjectID:
        """Return the stream of something that the index lists.

        Raises:
            IntegrityError: The index's stream does not refer to it.
        """
        stream_id = self.document.refs.get(str(descriptor.digest))
        if stream_id is None:
            raise IntegrityError(f"stored index {self.digest}: missing named ref to {descriptor.digest}")
        return stream_id


def entry_name(descriptor: Descriptor) -> str:
    """Return the name of the stream of something that an index lists."""
    prefix = INDEX if descriptor.media_type in INDEXES else MANIFEST
    return f"{prefix}{descriptor.digest}"


def open_index(repository: Repository, digest: OciDigest, stream_id: ObjectID | None = None) -> StoredIndex:
    """Open a stored index; its digest is checked.

    Args:
        repository: Where it is stored.
        digest: The index.
        stream_id: Its stream; None is the one that has its name.

    Raises:
        FormatError, IntegrityError: What is stored is damaged, or there is none.
    """
    stream_id = stream_id or repository.streams.find(f"{INDEX}{digest}")
    if stream_id is None:
        raise IntegrityError(f"index {digest} is not stored")
    document = read_document(repository, stream_id, ContentType.OCI_INDEX, digest)
    return StoredIndex(digest, parse_index(document.data, f"index {digest}"), document)


class Listed(NamedTuple):
    """Something that an index lists, or an index below it.

    Attributes:
        descriptor: What it is.
        stream_id: Its stream.
        inner: The same, opened, if it is an index; whatever it lists comes before it.
    """

    descriptor: Descriptor
    stream_id: ObjectID
    inner: StoredIndex | None


def iter_listed(repository: Repository, index: StoredIndex) -> Iterator[Listed]:
    """Yield everything that an index leads to, each once, an index behind what it lists.

    Raises:
        FormatError, IntegrityError: An index is damaged, or there is too much.
    """
    yield from _Walk(repository).walk(index, 1)


class _Walk:
    """One walk over all that an index leads to."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._seen: set[OciDigest] = set()
        self._indexes = 0

    def walk(self, index: StoredIndex, depth: int) -> Iterator[Listed]:
        for descriptor in index.entries:
            if descriptor.digest in self._seen:
                continue
            self._seen.add(descriptor.digest)
            stream_id = self._repository.streams.find(entry_name(descriptor)) or index.find_stream(descriptor)
            if descriptor.media_type not in INDEXES:
                check_manifest_count(len(self._seen) - self._indexes, index.digest)
                yield Listed(descriptor, stream_id, None)
                continue
            self._indexes += 1
            check_nesting(descriptor.digest, depth, self._indexes)
            inner = open_index(self._repository, descriptor.digest, stream_id)
            yield from self.walk(inner, depth + 1)
            yield Listed(descriptor, stream_id, inner)


def check_nesting(digest: OciDigest, depth: int, count: int) -> None:
    """Bound the indexes below an index: names of names of names have no end.

    Raises:
        ManifestError: It is too deep, or there are too many.
    """
    if depth >= MAX_DEPTH:
        raise ManifestError(f"index {digest}: expected at most {MAX_DEPTH} indexes one below the other")
    if count > MAX_INDEXES:
        raise ManifestError(f"index {digest}: expected at most {MAX_INDEXES} indexes below one, found more")


def check_manifest_count(count: int, digest: OciDigest) -> None:
    """Bound the images of an index.

    Raises:
        ManifestError: There are too many.
    """
    if count > MAX_MANIFESTS:
        raise ManifestError(f"index {digest}: expected at most {MAX_MANIFESTS} manifests, found more")


def store_index(repository: Repository, digest: OciDigest, data: bytes) -> ObjectID:
    """Store an index whose entries are stored, and name its stream; return that.

    Args:
        repository: Where.
        digest: The index.
        data: The same, byte for byte.

    Raises:
        FormatError: It is not valid.
        IntegrityError: Something that it lists is not stored.
    """
    refs: dict[str, ObjectID] = {}
    for descriptor in parse_index(data, f"index {digest}"):
        stream_id = repository.streams.find(entry_name(descriptor))
        if stream_id is None:
            raise IntegrityError(f"index {digest}: {descriptor.digest} is not stored")
        refs[str(descriptor.digest)] = stream_id
    stored = repository.objects.ensure_bytes(data)
    stream_id = write_document(repository, ContentType.OCI_INDEX, stored, dict(sorted(refs.items())))
    name = f"{INDEX}{digest}"
    if repository.streams.find(name) != stream_id:
        publish(repository, streams=[NewStream(name, stream_id)])
    return stream_id


def tag_index(repository: Repository, digest: OciDigest, tag: str) -> None:
    """Move a tag to a stored index.

    Raises:
        RefNotFoundError: It is not stored.
    """
    repository.streams.set_ref(INDEX_TAGS.ref(tag), f"{INDEX}{digest}")


def rewrite_indexes(repository: Repository, changed: Mapping[str, ObjectID]) -> dict[str, ObjectID]:
    """Write the streams of indexes again that refer to streams which have changed; naming is the caller's.

    A manifest's stream changes with its config's, when images are made. An index that still led to the old
    one would not protect the images of the new one.

    Args:
        repository: Where.
        changed: New streams by name.

    Returns:
        New streams of indexes by name.
    """
    names = [f"{INDEX}{digest}" for digest in iter_digests(repository, INDEX)]
    found: dict[str, ObjectID] = {}
    for _ in range(MAX_DEPTH if names else 0):  # what refers to an index changes with it
        before = dict(found)
        for name in names:
            found.update(_rewrite(repository, name, {**changed, **found}))
        if found == before:
            break
    return found


def refresh_indexes(repository: Repository) -> None:
    """Have all indexes refer to the streams that manifests have now."""
    streams = {stream.name: stream.object_id for stream in repository.streams.list_streams()}
    found = rewrite_indexes(repository, streams)
    if found:
        publish(repository, streams=[NewStream(*entry) for entry in found.items()])


def _rewrite(
    repository: Repository, name: str, changed: Mapping[str, ObjectID]
) -> Iterator[tuple[str, ObjectID]]:
    stream_id = repository.streams.find(name)
    if stream_id is None:
        return
    try:
        with repository.streams.open_object(stream_id, ContentType.OCI_INDEX) as reader:
            refs = dict(reader.named_refs)
            document = find_only_object(reader)
    except (CfsError, OSError):
        return  # which is for a check to tell
    new = {
        key: changed.get(f"{MANIFEST}{key}", changed.get(f"{INDEX}{key}", old)) for key, old in refs.items()
    }
    status = repository.objects.stat(document)
    if new != refs and status is not None:
        stored = StoredObject(document, status.st_size, is_new=False)
        refs = dict(sorted(new.items()))
        yield name, write_document(repository, ContentType.OCI_INDEX, stored, refs)
