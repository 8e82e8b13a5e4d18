"""Compressing streams of bytes: the same input makes the same output, with one version of the library."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.compression.base import Compression

if TYPE_CHECKING:
    from collections.abc import Callable

_GZIP_LEVEL: Final = 6
_GZIP_WINDOW_BITS: Final = 31
_ZSTD_LEVEL: Final = 3


class Encoder(Protocol):
    """Compresses one stream."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        """Process the next bytes, and return what is ready."""

    def flush(self) -> bytes:
        """Return the rest."""


class _Plain:
    """Leaves bytes as they are."""

    def compress(self, data: bytes | memoryview, /) -> bytes:
        return bytes(data)

    def flush(self) -> bytes:
        return b""


def make_encoder(kind: Compression) -> Encoder:
    """Return what compresses one stream; gzip headers have neither name nor time.

    Raises:
        KeyError: Nothing here compresses so.
    """
    return _ENCODERS[kind]()


def _make_gzip() -> Encoder:
    return zlib.compressobj(_GZIP_LEVEL, zlib.DEFLATED, _GZIP_WINDOW_BITS)


def _make_zstd() -> Encoder:
    import zstandard  # few streams are

    return zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()


_ENCODERS: Final[dict[Compression, Callable[[], Encoder]]] = {
    Compression.NONE: _Plain,
    Compression.GZIP: _make_gzip,
    Compression.ZSTD: _make_zstd,
}
