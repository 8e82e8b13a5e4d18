"""Compare streams with the digests in their names, for `fsck`; `cfsctl.oci.check` checks whole images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, describe
from cfsctl.oci.digest import OciDigestError
from cfsctl.oci.store.documents import find_only_object, read_document
from cfsctl.oci.store.names import BLOB, CONFIG, INDEX, LAYER, MANIFEST, parse_stream_name
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository
    from cfsctl.repository.check.links import ContentCheck
    from cfsctl.splitstream import SplitstreamReader

_TYPES: Final = {
    CONFIG: frozenset({ContentType.OCI_CONFIG}),
    MANIFEST: frozenset({ContentType.OCI_MANIFEST}),
    LAYER: frozenset({ContentType.OCI_LAYER, ContentType.OCI_BLOB}),
    BLOB: frozenset({ContentType.OCI_BLOB}),
    INDEX: frozenset({ContentType.OCI_INDEX}),
}
"""What the streams of each kind of name hold; the layers of artifacts are blobs."""


def stream_check(repository: Repository, *, is_deep: bool = True) -> ContentCheck:
    """Return how a check of a repository looks at the streams of images.

    Args:
        repository: The repository.
        is_deep: Compare layers and blobs as well, which have to be read for that.
    """

    def check(reader: SplitstreamReader, name: str) -> Iterator[str]:
        return _iter_problems(repository, reader, name, is_deep=is_deep)

    return check


def _iter_problems(
    repository: Repository, reader: SplitstreamReader, name: str, *, is_deep: bool
) -> Iterator[str]:
    """Yield what is wrong with a stream; objects that are missing are skipped, as any check finds those."""
    parsed = parse_stream_name(name)
    if parsed is None:
        return
    kind, digest = parsed
    if reader.content_type not in _TYPES[kind]:
        what = kind.split("-")[1]
        yield f"expected a {what}, found a stream of the content type {reader.content_type:#x}"
        return
    try:
        if reader.content_type != ContentType.OCI_LAYER:
            find_only_object(reader)
        if repository.objects.find_missing(reader.object_refs):
            return
        if kind in {CONFIG, MANIFEST, INDEX}:
            _check_document(repository, name, ContentType(reader.content_type), digest)
        elif is_deep:
            yield from _compare(repository, name, digest)
    except (CfsError, OSError) as error:
        yield describe(error)


def _check_document(repository: Repository, name: str, content_type: ContentType, digest: OciDigest) -> None:
    stream_id = repository.streams.find(name)
    if stream_id is not None:
        read_document(repository, stream_id, content_type, digest)


def _compare(repository: Repository, name: str, digest: OciDigest) -> Iterator[str]:
    """Yield that a layer or blob has another digest; one of an unknown algorithm proves nothing."""
    stream_id = repository.streams.find(name)
    if stream_id is None:
        return
    try:
        computed = digest.new_hash()
    except OciDigestError:
        return
    with repository.streams.open_object(stream_id) as reader:
        reader.cat(computed.update, repository.objects.open)
    if computed.hexdigest() != digest.encoded:
        yield f"expected the content {digest}, found {digest.algorithm}:{computed.hexdigest()}"
