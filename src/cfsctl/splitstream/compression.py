"""zstd as splitstreams use it: one frame per section, written with the default parameters.

The compressed bytes decide about a splitstream's object ID, so the parameters are part of the format:
level 3, no content size in the frame, no checksum, no flush before the end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.splitstream.format import COMPRESSION_LEVEL, MAX_WINDOW_BYTES, SplitstreamError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import zstandard

_FEED_BYTES: Final = 1024
"""Compressed bytes handed to zstd at a time. Four bytes can stand for a block of 128 KiB, so this bounds
what one step can produce to 32 MiB, whatever the input."""


def start_compression() -> zstandard.ZstdCompressionObj:
    """Return a compressor for one section: ``compress`` any number of times, then ``flush`` once."""
    import zstandard  # noqa: PLC0415 - slow to import, and many commands need no stream

    return zstandard.ZstdCompressor(level=COMPRESSION_LEVEL).compressobj()


def iter_decompressed(pieces: Iterable[bytes], field: str) -> Iterator[bytes]:
    """Yield what a section decompresses to, in bounded pieces.

    Args:
        pieces: The compressed section, one frame or several.
        field: Name of the section, for messages.

    Raises:
        SplitstreamError: No zstd frame, a frame that is cut short, or one that needs too much memory.
    """
    import zstandard  # noqa: PLC0415 - as above

    context = zstandard.ZstdDecompressor(max_window_size=MAX_WINDOW_BYTES)
    frame = context.decompressobj()
    frames = 0
    fresh = True
    try:
        for piece in pieces:
            rest = memoryview(piece)
            while rest:
                data = frame.decompress(rest[:_FEED_BYTES])
                consumed = min(len(rest), _FEED_BYTES)
                fresh = False
                if frame.eof:
                    frames += 1
                    consumed -= len(frame.unused_data)
                    frame, fresh = context.decompressobj(), True
                if data:
                    yield data
                rest = rest[consumed:]
    except zstandard.ZstdError as error:
        raise SplitstreamError(
            f"splitstream: section {field}: expected zstd data: {error}", field=field
        ) from error
    if not frames or not fresh:
        raise SplitstreamError(f"splitstream: section {field}: the zstd frame is incomplete", field=field)
