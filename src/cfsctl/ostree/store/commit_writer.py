"""Write commit streams; `cfsctl.ostree.store.commit_stream` describes the format."""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from typing import TYPE_CHECKING

from cfsctl.ostree.limits import LimitError
from cfsctl.ostree.objects import CHECKSUM_SIZE
from cfsctl.ostree.objects.held_objects import NO_OBJECT
from cfsctl.ostree.store.commit_rows import gather_rows
from cfsctl.ostree.store.commit_stream import ALIGNMENT, HEAD, MAX_CONTENT_BYTES, NO_REFS, PLACE
from cfsctl.splitstream.format import ContentType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from cfsctl.digest import Algorithm, Checksum, ObjectID
    from cfsctl.ostree.objects.stored_content import StoredContent
    from cfsctl.splitstream import ObjectSink
    from cfsctl.splitstream.writer import SplitstreamWriter


def write_commit_stream(
    sink: ObjectSink,
    algorithm: Algorithm,
    commit: Checksum,
    objects: Mapping[Checksum, StoredContent],
    refs: Mapping[str, ObjectID] = NO_REFS,
    content_type: ContentType = ContentType.OSTREE_COMMIT,
    image_objects: Iterable[ObjectID] = (),
) -> ObjectID:
    """Store a commit; see `begin_commit_stream`.

    Args:
        sink: The repository's objects.
        algorithm: The repository's algorithm.
        commit: Name of the commit, one of `objects`.
        objects: What the commit needs and nothing else.
        refs: Objects to keep alive, by name; the commit's image is `IMAGE_REF`.
        content_type: Tells a whole commit from a partial one.
        image_objects: Objects that the commit's image needs.

    Returns:
        The ID of the splitstream object.
    """
    with begin_commit_stream(sink, algorithm, commit, objects, content_type, image_objects) as writer:
        for name, object_id in refs.items():
            writer.add_named_ref(name, object_id)
        return writer.finish()


def begin_commit_stream(
    sink: ObjectSink,
    algorithm: Algorithm,
    commit: Checksum,
    objects: Mapping[Checksum, StoredContent],
    content_type: ContentType = ContentType.OSTREE_COMMIT,
    image_objects: Iterable[ObjectID] = (),
) -> SplitstreamWriter:
    """Write all of a commit but the named references, which may be known later than the rest.

    The caller adds those and finishes the stream; syncing and naming it are the caller's too.

    Args:
        sink: The repository's objects.
        algorithm: The repository's algorithm.
        commit: Name of the commit, one of `objects`.
        objects: What the commit needs and nothing else: data, and the ID of content that is an object.
        content_type: Tells a whole commit from a partial one, of which `objects` lacks something.
        image_objects: Objects that the commit's image needs, also those that the commit has inline: the
            original keeps an image that a stream names without its objects, unless the stream lists them.

    Returns:
        The writer, a context manager that has to be left.

    Raises:
        LimitError: More data than a reader takes.
        SplitstreamError: The same, for data that are repeated over and over.
        ValueError: The commit is not among the objects.
        OSError: Nothing is stored then.
    """
    # Brings the compressor along, which readers of other kinds do not need.
    from cfsctl.splitstream.writer import SplitstreamWriter

    if commit not in objects:
        raise ValueError(f"commit {commit.hex()} is not among its objects")
    writer = SplitstreamWriter(sink, algorithm, content_type, is_held=True)
    try:
        _write_objects(writer, commit, objects, image_objects)
    except BaseException:
        writer.abort()
        raise
    return writer


def _write_objects(
    writer: SplitstreamWriter,
    commit: Checksum,
    objects: Mapping[Checksum, StoredContent],
    image_objects: Iterable[ObjectID],
) -> None:
    checksums, sizes, ids, batches = gather_rows(objects)
    numbers = [NO_OBJECT if number is None else number for number in writer.add_object_refs(ids)]
    for object_id in image_objects:
        writer.add_object_ref(object_id)
    places, data_size = _format_places(sizes, numbers)
    head = _format_head(checksums, bisect_left(checksums, commit))
    size = len(head) + len(checksums) * CHECKSUM_SIZE + len(places) + data_size
    if size > MAX_CONTENT_BYTES:
        raise LimitError(
            f"commit {commit.hex()}: its stream has {size} bytes; expected at most {MAX_CONTENT_BYTES}"
        )
    writer.begin_inline(size)
    writer.write_inline(head)
    writer.write_inline(b"".join(checksums))
    writer.write_inline(places)
    for batch in batches:
        writer.write_inline(batch)
    writer.end_stream()


def _format_head(checksums: Sequence[Checksum], position: int) -> bytes:
    ends = [bisect_left(checksums, bytes((byte + 1,))) for byte in range(255)]
    return HEAD.pack(position, 0, *ends, len(checksums))


def _format_places(sizes: Sequence[int], numbers: Iterable[int]) -> tuple[bytes, int]:
    """Return the table of places, and the size in bytes of all data with its padding."""
    largest = max(sizes)
    if largest >= 1 << 32:
        raise LimitError(f"commit stream: expected objects of less than 4 GiB, found {largest} bytes")
    table = array("I", bytes(PLACE.size * len(sizes)))
    start = 0
    starts = []
    for size in sizes:
        starts.append(start)
        start += (size + ALIGNMENT - 1) // ALIGNMENT
    if start >= 1 << 32:
        raise LimitError(f"commit stream: expected at most 32 GiB, found {start * ALIGNMENT} bytes")
    table[0::3], table[1::3], table[2::3] = array("I", starts), array("I", sizes), array("I", numbers)
    if sys.byteorder == "big":
        table.byteswap()
    return table.tobytes(), start * ALIGNMENT
