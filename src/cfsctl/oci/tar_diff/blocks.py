"""Finding what a large file has in common with another, in little memory.

Both are cut where their content says, so that the cuts move along with what follows bytes that were inserted
or removed. Blocks that both have are copied, with as many bytes before and behind as are equal as well.
"""

from __future__ import annotations

import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.oci.tar_diff.decode import SourceFile

MIN_BLOCK_BYTES: Final = 2048
MAX_BLOCK_BYTES: Final = 1 << 16
_READ_BYTES: Final = 1 << 20
_LITERAL_BYTES: Final = 1 << 20
"""Most bytes without an equal that are held, to be compared with what is before the next block."""

_CUT: Final = re.compile(rb"[\x17e\xa6\xe1][\x00-\x0f]")
"""Where blocks may end: in one place of a thousand of machine code, and in text at the end of some lines."""

_DIGEST_BYTES: Final = 16


def iter_blocks(pieces: Iterable[bytes | memoryview]) -> Iterator[bytes]:
    """Yield the bytes of pieces cut into blocks; where the pieces were cut makes no difference."""
    held = bytearray()
    searched = 0  # no cut ends before that
    for piece in pieces:
        held += piece
        start = 0
        for end in (*(match.end() for match in _CUT.finditer(held, max(0, searched - 1))), len(held)):
            while end - start > MAX_BLOCK_BYTES:
                yield bytes(held[start : start + MAX_BLOCK_BYTES])
                start += MAX_BLOCK_BYTES
            if end - start >= MIN_BLOCK_BYTES and end < len(held):
                yield bytes(held[start:end])
                start = end
        del held[:start]
        searched = len(held)
    if held:
        yield bytes(held)


class BlockMatcher:
    """Puts a file together from blocks of another, and what that does not have."""

    def __init__(
        self,
        file: SourceFile,
        copy: Callable[[int, int], object],
        data: Callable[[bytes], object],
    ) -> None:
        """Read the other file once.

        Args:
            file: The other file, which stays the caller's.
            copy: Called with offset and size of bytes of the other file.
            data: Called with other bytes.
        """
        self._file = file
        self._copy = copy
        self._data = data
        self._offsets: dict[bytes, int] = {}
        self._literal = bytearray()
        self._end = -1  # in the other file, of what was copied last; -1 after other bytes
        offset = 0
        for block in iter_blocks(_iter_pieces(file)):
            self._offsets.setdefault(_digest(block), offset)
            offset += len(block)

    def run(self, pieces: Iterable[bytes | memoryview]) -> None:
        """Put the file together whose content comes in pieces."""
        for block in iter_blocks(pieces):
            offset = self._find(block)
            if offset is None:
                self._take_literal(block)
            else:
                self._take_copy(block, offset)
        self._flush()

    def _find(self, block: bytes) -> int | None:
        """Return where the other file has a block; where the last copy ended, if possible."""
        if self._end >= 0 and self._file.read(len(block), self._end) == block:
            return self._end
        offset = self._offsets.get(_digest(block))
        return offset if offset is not None and self._file.read(len(block), offset) == block else None

    def _take_copy(self, block: bytes, offset: int) -> None:
        reach = min(len(self._literal), offset)
        before = self._file.read(reach, offset - reach)
        equal = count_equal(self._literal[::-1], before[::-1])
        del self._literal[len(self._literal) - equal :]
        self._flush()
        self._copy(offset - equal, len(block) + equal)
        self._end = offset + len(block)

    def _take_literal(self, block: bytes) -> None:
        equal = 0
        if self._end >= 0:
            equal = count_equal(block, self._file.read(len(block), self._end))
            if equal:
                self._copy(self._end, equal)
            self._end = -1
        self._literal += block[equal:]
        if len(self._literal) > _LITERAL_BYTES:
            self._flush()

    def _flush(self) -> None:
        if self._literal:
            self._data(bytes(self._literal))
            self._literal.clear()


def count_equal(first: bytes | bytearray, second: bytes | bytearray) -> int:
    """Return how many bytes two sequences have in common at their start."""
    low, high = 0, min(len(first), len(second))
    while low < high:
        middle = (low + high + 1) // 2
        if first[low:middle] == second[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _digest(block: bytes) -> bytes:
    return blake2b(block, digest_size=_DIGEST_BYTES).digest()


def _iter_pieces(file: SourceFile) -> Iterator[bytes]:
    offset = 0
    while data := file.read(_READ_BYTES, offset):
        yield data
        offset += len(data)
