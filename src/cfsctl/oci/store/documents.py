"""Streams that hold one document or blob: a single object of any size, and named references."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from cfsctl.errors import IntegrityError
from cfsctl.json_fields import MAX_DOCUMENT_BYTES
from cfsctl.splitstream.format import describe_content_type
from cfsctl.splitstream.reader import External
from cfsctl.splitstream.writer import SplitstreamWriter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.digest import ObjectID
    from cfsctl.oci.digest import OciDigest
    from cfsctl.repository import Repository
    from cfsctl.repository.objects.store import StoredObject
    from cfsctl.splitstream.format import ContentType
    from cfsctl.splitstream.reader import SplitstreamReader


class StoredDocumentError(IntegrityError):
    """A stored document that is not what its name says."""


class StoredDocument(NamedTuple):
    """A document as it is stored.

    Attributes:
        stream_id: The splitstream object.
        object_id: The object that is the document.
        data: The document.
        refs: Objects that its stream keeps alive, by name.
    """

    stream_id: ObjectID
    object_id: ObjectID
    data: bytes
    refs: Mapping[str, ObjectID]


def write_document(
    repository: Repository, content_type: ContentType, stored: StoredObject, refs: Mapping[str, ObjectID]
) -> ObjectID:
    """Store the stream around an object; naming it is the caller's.

    Args:
        repository: Where.
        content_type: What the object is.
        stored: The object.
        refs: What the stream keeps alive, in this order.

    Returns:
        The ID of the splitstream object.
    """
    with SplitstreamWriter(repository.objects, repository.algorithm, content_type) as writer:
        for name, object_id in refs.items():
            writer.add_named_ref(name, object_id)
        writer.write_external(stored.object_id, stored.size)
        return writer.finish()


def read_document(
    repository: Repository, stream_id: ObjectID, content_type: ContentType, digest: OciDigest
) -> StoredDocument:
    """Return a stored document, whose digest has been checked.

    Raises:
        SplitstreamError: It is not a stream of this type.
        IntegrityError: It is not the document that `digest` names, or something is missing.
    """
    kind = describe_content_type(content_type).removeprefix("oci ")
    with repository.streams.open_object(stream_id, content_type) as reader:
        object_id = find_only_object(reader)
        refs = dict(reader.named_refs)
    status = repository.objects.stat(object_id)
    if status is not None and status.st_size > MAX_DOCUMENT_BYTES:
        raise StoredDocumentError(
            f"stored {kind} {digest}: expected at most {MAX_DOCUMENT_BYTES} bytes, found {status.st_size}"
        )
    data = repository.objects.read(object_id)
    computed = digest.new_hash()
    computed.update(data)
    if computed.hexdigest() != digest.encoded:
        raise StoredDocumentError(
            f"{kind.capitalize()} integrity failed: expected {digest},"
            f" got {digest.algorithm}:{computed.hexdigest()}"
        )
    return StoredDocument(stream_id, object_id, data, refs)


def find_only_object(reader: SplitstreamReader) -> ObjectID:
    """Return the one object that a stream consists of.

    Raises:
        StoredDocumentError: It does not.
        SplitstreamError: It is damaged.
    """
    found: list[ObjectID] = []
    has_inline = False
    for chunk in reader.iter_chunks():
        if isinstance(chunk, External):
            found.append(chunk.object_id)
        else:
            has_inline = True
        if has_inline or len(found) > 1:
            break
    if has_inline or len(found) != 1:
        count = "inline data" if has_inline else f"{len(found)}{' or more' if found else ''}"
        raise StoredDocumentError(f"Expected exactly 1 external object in splitstream, got {count}")
    return found[0]
