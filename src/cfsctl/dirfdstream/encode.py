"""From an archive's pieces to the stream."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.dirfdstream.format import INLINE, MAX_INLINE_BYTES, REFERENCE, Tag

if TYPE_CHECKING:
    from collections.abc import Iterator


def encode_inline(data: bytes | memoryview) -> Iterator[bytes | memoryview]:
    """Yield what stands for bytes of the archive."""
    view = memoryview(data)
    for start in range(0, len(view), MAX_INLINE_BYTES):
        piece = view[start : start + MAX_INLINE_BYTES]
        yield INLINE.pack(Tag.METADATA, len(piece))
        yield piece


def encode_reference(size: int, directory: int, name: bytes) -> bytes:
    """Return what stands for the content of a file.

    Args:
        size: Its bytes.
        directory: Number of the directory.
        name: Its path there.
    """
    return REFERENCE.pack(Tag.REFERENCE, size, directory, len(name)) + name
