"""Splitstreams made by hand, so that each part of them can be wrong."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import zstandard

from cfsctl.splitstream import External, Inline, SplitstreamReader, SplitstreamWriter

if TYPE_CHECKING:
    from collections.abc import Iterable

    from cfsctl.digest import Algorithm
    from tests.fakes.object_store import MemoryStore

HEAD_SIZE = 112


def frame(data: bytes) -> bytes:
    """Return one zstd frame as writers make it."""
    compressor = zstandard.ZstdCompressor(level=3).compressobj()
    return compressor.compress(data) + compressor.flush()


def chunks(*parts: int | bytes) -> bytes:
    """Return chunks unpacked: numbers as they are, data with its size in front."""
    return b"".join(
        struct.pack("<q", part) if isinstance(part, int) else struct.pack("<q", -len(part)) + part
        for part in parts
    )


def build(
    stream: bytes,
    *,
    refs: Iterable[bytes] = (),
    stream_refs: Iterable[bytes] = (),
    named_refs: bytes | None = None,
    size: int = 0,
    content_type: int = 0,
    algorithm: int = 1,
    header: bytes | None = None,
    ranges: dict[str, tuple[int, int]] | None = None,
) -> bytes:
    """Return a splitstream.

    Args:
        stream: The compressed chunks.
        refs: Object references.
        stream_refs: Stream references.
        named_refs: The compressed names.
        size: What the stream claims to be, in bytes.
        content_type: Content type.
        algorithm: Number of the algorithm.
        header: The 32 bytes at the start.
        ranges: Ranges by section, instead of the right ones.
    """
    bodies = {
        "stream_refs": b"".join(stream_refs),
        "object_refs": b"".join(refs),
        "named_refs": frame(b"") if named_refs is None else named_refs,
        "stream": stream,
    }
    places = {}
    start = HEAD_SIZE
    for name, body in bodies.items():
        places[name] = (start, start + len(body))
        start += len(body)
    places |= ranges or {}
    order = ("stream_refs", "object_refs", "stream", "named_refs")
    info = b"".join(struct.pack("<QQ", *places[name]) for name in order)
    if header is None:
        header = b"SplitStream" + struct.pack("<BHBBQQ", 0, 0, algorithm, 12, 32, HEAD_SIZE)
    return header + info + struct.pack("<QQ", content_type, size) + b"".join(bodies.values())


def rebuild(data: bytes, store: MemoryStore, algorithm: Algorithm) -> bytes:
    """Return what `cat` gives."""
    result = bytearray()
    with SplitstreamReader(data, algorithm) as reader:
        reader.cat(result.extend, store.open)
    return bytes(result)


def rewrite(data: bytes, store: MemoryStore, algorithm: Algorithm) -> bytes:
    """Read a splitstream and write it again, names, references and chunks."""
    reader = SplitstreamReader(data, algorithm)
    with SplitstreamWriter(store, algorithm, reader.content_type) as writer:
        for object_id in reader.object_refs:
            writer.add_object_ref(object_id)
        by_number = sorted(reader.named_refs.items(), key=lambda item: reader.stream_refs.index(item[1]))
        for name, object_id in by_number:
            writer.add_named_ref(name, object_id)
        for chunk in reader.iter_chunks():
            if isinstance(chunk, Inline):
                writer.write_inline(chunk.data)
            else:
                assert isinstance(chunk, External)
                writer.write_external(chunk.object_id, len(store.objects.get(chunk.object_id, b"")))
        return store.objects[writer.finish()]
