"""zstd: frames are followed block by block, so that no input can make the library give a lot at once.

    frame       magic, header of 2 to 14 bytes, blocks, checksum of 4 bytes if the header says so
    block       3 bytes (last: 1 bit, type: 2 bits, size: 21 bits), then `size` bytes, or 1 byte to repeat
    skippable   magic 0x184D2A5?, size (32 bits), as many bytes

A block unpacks to 128 KiB at most, regardless of its size. Format: RFC 8878, 3.1.

Layers in zstd:chunked have several frames for each file. Frames that are small, and complete in a piece of
input, are therefore decompressed with one call each, and what they hold is given out together.
"""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

import zstandard

from cfsctl.compression.base import MAX_PIECE_BYTES, Compression, CompressionError, not_a_member, truncated

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator

MAX_WINDOW_BYTES: Final = 1 << 27
"""Largest window that a frame may ask memory for, which is the library's own limit: `zstd --ultra -22`."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE_MAGIC_END: Final = b"\x2a\x4d\x18"
_MAX_BLOCK_BYTES: Final = 1 << 17
_BLOCKS_AT_ONCE: Final = MAX_PIECE_BYTES // _MAX_BLOCK_BYTES
_SMALL_FRAME_BLOCKS: Final = 4
_MAX_HEAD_BYTES: Final = 14
"""Of magic, descriptor, window and content size."""
_ODD_DESCRIPTOR_BITS: Final = 0b11011
"""Reserved bits, and those of dictionaries."""
_REPEATED: Final = 1
_RESERVED: Final = 3


class _Part(Enum):
    """What the next bytes are."""

    MAGIC = 1
    SKIPPABLE_SIZE = 2
    SKIPPED = 3
    DESCRIPTOR = 4
    HEADER = 5
    BLOCK_HEADER = 6
    BLOCK = 7
    CHECKSUM = 8


_SHORT_PARTS: Final = frozenset({_Part.MAGIC, _Part.SKIPPABLE_SIZE, _Part.DESCRIPTOR, _Part.BLOCK_HEADER})
"""Those whose bytes are looked at."""


class _SmallFrame(NamedTuple):
    """A complete frame that unpacks to one piece at most.

    Attributes:
        end: Where it ends in the input.
        window_bytes: Window that it asks for.
        limit_bytes: Most bytes that it can unpack to.
    """

    end: int
    window_bytes: int
    limit_bytes: int


class ZstdDecoder:
    """Decodes zstd frames; see the rules of the package."""

    def __init__(self, max_window_bytes: int = MAX_WINDOW_BYTES) -> None:
        """Begin before the first frame; frames that ask for a larger window are refused."""
        self._max_window_bytes = max_window_bytes
        self._library = zstandard.ZstdDecompressor(max_window_size=max_window_bytes)
        self._frame: zstandard.ZstdDecompressionObj | None = None
        self._part = _Part.MAGIC
        self._missing = 4  # bytes of the part
        self._field = b""
        self._is_empty = True
        self._has_checksum = False
        self._is_last_block = False
        self._blocks = 0  # that are complete and that the library has not been given yet

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        """Unpack the next piece of input."""
        view = memoryview(data)
        start = place = 0  # what lies between them is for the library
        while place < len(view):
            if self._part is _Part.MAGIC and not self._field:
                start = place = yield from self._decode_small_frames(view, place)
            end = min(place + self._missing, len(view))
            if self._part in _SHORT_PARTS:
                self._field += view[place:end]
            self._missing -= end - place
            place = end
            while not self._missing:
                was_in_frame = self._frame is not None
                is_complete = self._advance()
                if is_complete or self._blocks == _BLOCKS_AT_ONCE:
                    yield from self._unpack(view[start:place], is_complete=is_complete)
                    start = place
                if not was_in_frame:
                    start = place
        if self._frame is not None and start < place:
            yield from self._unpack(view[start:place], is_complete=False)

    def _decode_small_frames(self, view: memoryview, place: int) -> Generator[bytes, None, int]:
        """Decompress small frames that follow one another; return where the first other thing begins."""
        outputs: list[bytes] = []
        left = MAX_PIECE_BYTES
        while (frame := _find_small_frame(view, place)) and frame.window_bytes <= self._max_window_bytes:
            if frame.limit_bytes > left and outputs:
                yield b"".join(outputs)
                outputs.clear()
                left = MAX_PIECE_BYTES
            try:
                output = self._library.decompress(
                    view[place : frame.end], frame.limit_bytes, allow_extra_data=False
                )
            except zstandard.ZstdError:
                break  # followed part by part, so that what is damaged does not depend on the pieces
            self._is_empty = False
            place = frame.end
            if output:
                outputs.append(output)
                left -= len(output)
        if outputs:
            yield b"".join(outputs)
        return place

    def _unpack(self, data: bytes | memoryview, *, is_complete: bool) -> Iterator[bytes]:
        """Decompress at most two blocks with the library."""
        assert self._frame is not None
        self._blocks = 0
        try:
            output = self._frame.decompress(data)
        except zstandard.ZstdError as error:
            raise CompressionError(f"zstd data: damaged: {error}") from error
        if is_complete:
            if not self._frame.eof:
                raise CompressionError("zstd data: damaged: the frame does not end with its last block")
            self._frame = None
        if output:
            yield output

    def _advance(self) -> bool:
        """Continue after a complete part; return whether a frame is complete now."""
        part, field = self._part, self._field
        self._field = b""
        if part is _Part.MAGIC:
            self._begin_frame(field)
        elif part is _Part.SKIPPABLE_SIZE:
            self._expect(_Part.SKIPPED, int.from_bytes(field, "little"))
        elif part is _Part.DESCRIPTOR:
            self._expect(_Part.HEADER, self._parse_descriptor(field[0]))
        elif part is _Part.BLOCK_HEADER:
            self._begin_block(int.from_bytes(field, "little"))
        elif part is _Part.BLOCK:
            return self._end_block()
        else:
            self._expect(
                _Part.BLOCK_HEADER if part is _Part.HEADER else _Part.MAGIC, 3 if part is _Part.HEADER else 4
            )
        return part is _Part.CHECKSUM

    def _expect(self, part: _Part, size: int) -> None:
        self._part = part
        self._missing = size

    def _begin_frame(self, magic: bytes) -> None:
        if magic[1:] == _SKIPPABLE_MAGIC_END and magic[0] & 0xF0 == 0x50:
            self._expect(_Part.SKIPPABLE_SIZE, 4)
        elif magic == _MAGIC:
            self._frame = self._library.decompressobj()
            self._frame.decompress(magic)
            self._expect(_Part.DESCRIPTOR, 1)
        else:
            raise not_a_member(Compression.ZSTD, "a zstd frame", magic, is_first=self._is_empty)
        self._is_empty = False

    def _parse_descriptor(self, descriptor: int) -> int:
        """Return the size of the rest of a frame's header."""
        self._has_checksum = bool(descriptor & 4)
        is_single_segment = bool(descriptor & 0x20)
        content_size = (is_single_segment, 2, 4, 8)[descriptor >> 6]
        dictionary_id = (0, 1, 2, 4)[descriptor & 3]
        return (not is_single_segment) + dictionary_id + content_size

    def _begin_block(self, header: int) -> None:
        kind = header >> 1 & 3
        if kind == _RESERVED:
            raise CompressionError("zstd data: damaged: a block of the reserved type")
        self._is_last_block = bool(header & 1)
        self._expect(_Part.BLOCK, 1 if kind == _REPEATED else header >> 3)

    def _end_block(self) -> bool:
        self._blocks += 1
        if not self._is_last_block:
            self._expect(_Part.BLOCK_HEADER, 3)
            return False
        if self._has_checksum:
            self._expect(_Part.CHECKSUM, 4)
            return False
        self._expect(_Part.MAGIC, 4)
        return True

    def finish(self) -> None:
        """Record the end of the input."""
        if self._is_empty or self._part is not _Part.MAGIC or self._missing != 4:
            raise truncated(Compression.ZSTD)


def _find_small_frame(view: memoryview, start: int) -> _SmallFrame | None:
    """Return the frame that begins here, or None if it is not small, not complete, or anything else is odd.

    What is not returned is followed part by part, which tells what is wrong with it. A frame is looked at
    here once in each piece of input, and not further than a few blocks: the time stays linear.
    """
    head = bytes(view[start : start + _MAX_HEAD_BYTES])
    if len(head) < _MAX_HEAD_BYTES or not head.startswith(_MAGIC) or head[4] & _ODD_DESCRIPTOR_BITS:
        return None
    descriptor = head[4]
    is_single_segment = bool(descriptor & 0x20)
    size_bytes = (is_single_segment, 2, 4, 8)[descriptor >> 6]
    place = 5 if is_single_segment else 6
    size = int.from_bytes(head[place : place + size_bytes], "little") + 256 * (size_bytes == 2)
    base = 1 << (10 + (head[5] >> 3))
    window = size if is_single_segment else base + (base >> 3) * (head[5] & 7)
    found = _find_end_of_blocks(view, start + place + size_bytes)
    if found is None:
        return None
    end, blocks = found
    end += 4 * bool(descriptor & 4)
    limit = size if size_bytes else blocks * _MAX_BLOCK_BYTES
    # A frame that says it is empty is followed part by part, since the library would not look at its blocks.
    return _SmallFrame(end, window, limit) if 0 < limit <= MAX_PIECE_BYTES and end <= len(view) else None


def _find_end_of_blocks(view: memoryview, place: int) -> tuple[int, int] | None:
    """Return where the blocks of a frame end, and their number; None if they are many, or not all here."""
    for count in range(1, _SMALL_FRAME_BLOCKS + 1):
        header = int.from_bytes(view[place : place + 3], "little")
        kind = header >> 1 & 3
        place += 3 + (1 if kind == _REPEATED else header >> 3)
        if place > len(view) or kind == _RESERVED:
            return None
        if header & 1:
            return place, count
    return None
