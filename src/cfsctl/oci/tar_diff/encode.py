"""Writing the operations of a patch; see `cfsctl.oci.tar_diff.format`.

The same calls make the same bytes, with one version of the compression library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cfsctl.oci.tar_diff.format import COPY, DATA, FRAME, MAGIC_1, MAGIC_2, OPEN, SEEK

if TYPE_CHECKING:
    from collections.abc import Callable

    import zstandard

_LEVEL: Final = 12
"""Higher levels take ten times as long for a few percent."""

_PENDING_BYTES: Final = 1 << 16


class TarDiffEncoder:
    """Writes one patch."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Begin.

        Args:
            write: Takes the compressed operations; the magic, which is known in the end, goes before them.
        """
        import zstandard

        self._write = write
        self._zstd = zstandard.ZstdCompressor(level=_LEVEL, write_checksum=True).compressobj()
        self._data = bytearray()
        self._path: bytes | None = None
        self._place = 0  # in the open file, for whoever applies the patch
        self._copy_start = self._copy_size = 0
        self._has_frames = False

    def data(self, data: bytes | memoryview) -> None:
        """Output bytes."""
        self._flush_copy()
        self._data += data
        if len(self._data) >= _PENDING_BYTES:
            self._flush_data()

    def copy(self, path: bytes, offset: int, size: int) -> None:
        """Output a part of a file."""
        if path == self._path and self._copy_size and self._copy_start + self._copy_size == offset:
            self._copy_size += size
            return
        self._open(path)
        self._copy_start, self._copy_size = offset, size

    def frame(self, path: bytes, frame: bytes, size: int) -> None:
        """Output what a frame unpacks to.

        Args:
            path: The file that is its prefix.
            frame: The frame.
            size: Bytes of the file.
        """
        self._open(path)
        self._put(FRAME, len(frame), frame)
        self._has_frames = True
        self._place = size

    def finish(self) -> bytes:
        """Write the rest, and return the magic."""
        self._flush_copy()
        self._flush_data()
        self._write(self._zstd.flush())
        return MAGIC_2 if self._has_frames else MAGIC_1

    def _open(self, path: bytes) -> None:
        self._flush_copy()
        self._flush_data()
        if path != self._path:
            self._put(OPEN, len(path), path)
            self._path, self._place = path, 0

    def _flush_copy(self) -> None:
        if self._copy_size:
            if self._place != self._copy_start:
                self._put(SEEK, self._copy_start)
            self._put(COPY, self._copy_size)
            self._place = self._copy_start + self._copy_size
            self._copy_size = 0

    def _flush_data(self) -> None:
        if self._data:
            self._put(DATA, len(self._data), bytes(self._data))
            self._data.clear()

    def _put(self, op: int, number: int, payload: bytes = b"") -> None:
        for piece in (bytes((op,)) + _pack_number(number), payload):
            if packed := self._zstd.compress(piece):
                self._write(packed)


def _pack_number(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def compress_with_prefix(data: bytes, prefix: bytes) -> bytes:
    """Return a zstd frame that can be unpacked with the same prefix, as `zstd --patch-from` makes it.

    This takes about eight times the size of the prefix in memory.

    Args:
        data: What it unpacks to.
        prefix: Bytes that it may repeat; at least one.
    """
    import zstandard

    parameters = zstandard.ZstdCompressionParameters.from_level(
        _LEVEL,
        source_size=len(data),
        dict_size=len(prefix),
        # References reach back over the data to the start of the prefix.
        window_log=max(zstandard.WINDOWLOG_MIN, (len(prefix) + len(data)).bit_length()),
    )
    dictionary = zstandard.ZstdCompressionDict(prefix, dict_type=zstandard.DICT_TYPE_RAWCONTENT)
    return zstandard.ZstdCompressor(dict_data=dictionary, compression_params=parameters).compress(data)


def estimate_size(data: bytes) -> int:
    """Return about how many bytes the data take without a prefix."""
    import zstandard

    compressor: zstandard.ZstdCompressor = zstandard.ZstdCompressor(level=3)
    return len(compressor.compress(data))
