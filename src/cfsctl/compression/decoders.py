"""gzip, xz and plain decoders, and the choice of a decoder by kind."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from cfsctl.compression.base import (
    MAX_PIECE_BYTES,
    Compression,
    CompressionError,
    Decoder,
    TooMuchOutputError,
    not_a_member,
    truncated,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cfsctl.compression.inflate import Inflater

_GZIP_WBITS: Final = 31
"""A gzip header and trailer are expected, and checked."""

_XZ_MEMORY_BYTES: Final = 128 << 20
"""Most memory that an xz stream may ask for: what `xz -9` needs is 65 MiB, libostree's 33 MiB."""


def make_decoder(
    kind: Compression,
    limit_bytes: int | None = None,
    *,
    is_single: bool = False,
    max_window_bytes: int | None = None,
) -> Decoder:
    """Return a decoder for one stream.

    Args:
        kind: How it is compressed.
        limit_bytes: Most bytes that it may unpack to; None means no limit.
        is_single: Whether gzip and xz have one member only.
        max_window_bytes: Largest window of a zstd frame; None is that of the library.
    """
    decoder = _make(kind, is_single=is_single, max_window_bytes=max_window_bytes)
    return decoder if limit_bytes is None else _Limited(decoder, limit_bytes)


def limit_output(decoder: Decoder, limit_bytes: int) -> Decoder:
    """Return a decoder that refuses more output than this."""
    return _Limited(decoder, limit_bytes)


def _make(kind: Compression, *, is_single: bool, max_window_bytes: int | None) -> Decoder:
    if kind is Compression.NONE:
        return _Plain()
    if kind is Compression.ZSTD:
        from cfsctl.compression.zstd import MAX_WINDOW_BYTES, ZstdDecoder  # brings the library along

        return ZstdDecoder(max_window_bytes or MAX_WINDOW_BYTES)
    if kind is Compression.XZ:
        return _Members(kind, b"\xfd7zXZ\0", "an xz stream", *_load_xz(), is_single=is_single)
    return _Members(kind, b"\x1f\x8b", "a gzip member", *_load_gunzip(), is_single=is_single)


def iter_decoded(
    pieces: Iterable[bytes | memoryview],
    kind: Compression,
    limit_bytes: int | None = None,
    *,
    is_single: bool = False,
    max_window_bytes: int | None = None,
) -> Iterator[bytes | memoryview]:
    """Yield what a whole compressed stream holds, in pieces of at most `MAX_PIECE_BYTES`; see `make_decoder`.

    Raises:
        CompressionError: It is not valid; what came before has been delivered by then.
    """
    decoder = make_decoder(kind, limit_bytes, is_single=is_single, max_window_bytes=max_window_bytes)
    for piece in pieces:
        yield from decoder.decode(piece)
    decoder.finish()


class _Plain:
    """Bytes that are not compressed."""

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        if len(data) <= MAX_PIECE_BYTES:
            if data:
                yield data
            return
        view = memoryview(data)
        for start in range(0, len(view), MAX_PIECE_BYTES):
            yield view[start : start + MAX_PIECE_BYTES]

    def finish(self) -> None:
        """Any end is the end."""


class _Limited:
    """Another decoder whose output has a limit."""

    def __init__(self, decoder: Decoder, limit_bytes: int) -> None:
        self._decoder = decoder
        self._limit_bytes = limit_bytes
        self._left = limit_bytes

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        for piece in self._decoder.decode(data):
            self._left -= len(piece)
            if self._left < 0:
                raise TooMuchOutputError(f"data unpack to more than {self._limit_bytes} bytes")
            yield piece

    def finish(self) -> None:
        self._decoder.finish()


class _Members:
    """Members of one kind that follow one another: gzip and xz."""

    def __init__(
        self,
        kind: Compression,
        magic: bytes,
        unit: str,
        make: Callable[[], Inflater],
        error: type[Exception] | tuple[type[Exception], ...],
        *,
        is_single: bool,
    ) -> None:
        self._kind = kind
        self._magic = magic
        self._unit = unit
        self._make = make
        self._error = error
        self._is_single = is_single
        self._member: Inflater | None = None
        self._head = b""
        self._is_empty = True

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        rest: bytes | memoryview = data
        while rest:
            if self._member is None:
                rest = self._begin(rest)
                continue
            yield from self._decode_member(self._member, rest)
            rest = self._member.unused_data if self._member.eof else b""
            if self._member.eof:
                self._member = None

    def _begin(self, data: bytes | memoryview) -> bytes | memoryview:
        """Check the first bytes of a member, since the texts of the libraries do not tell what is wrong."""
        if self._is_single and not self._is_empty:
            raise not_a_member(self._kind, None, data, is_first=False)
        missing = len(self._magic) - len(self._head)
        if not self._head and len(data) >= missing:
            whole: bytes | memoryview = data
        else:
            whole = self._head + bytes(data)
        head = bytes(whole[: len(self._magic)])
        if not self._magic.startswith(head):
            raise not_a_member(self._kind, self._unit, whole, is_first=self._is_empty)
        if len(head) < len(self._magic):
            self._head = head
            return b""
        self._head = b""
        self._is_empty = False
        self._member = self._make()
        return whole

    def _decode_member(self, member: Inflater, data: bytes | memoryview) -> Iterator[bytes]:
        while True:
            try:
                output = member.decompress(data, MAX_PIECE_BYTES)
            except self._error as error:
                raise CompressionError(f"{self._kind.value} data: damaged: {error}") from error
            if output:
                yield output
            data = member.unconsumed_tail
            # A full piece may have left more behind in the library, without any input.
            if member.eof or not (data or len(output) == MAX_PIECE_BYTES):
                return

    def finish(self) -> None:
        if self._member is not None or self._head or self._is_empty:
            raise truncated(self._kind)


def _load_gunzip() -> tuple[Callable[[], Inflater], type[Exception]]:
    """Return what begins a gzip member, and what that raises."""
    from cfsctl.compression.inflate import load_inflate  # not for other kinds

    inflate = load_inflate()
    return partial(inflate.make, _GZIP_WBITS), inflate.error


class _XzStream:
    """One xz stream, with the interface of zlib's object."""

    unconsumed_tail = b""

    def __init__(self) -> None:
        import lzma  # few archives are xz

        self._decompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)

    @property
    def eof(self) -> bool:
        return self._decompressor.eof

    @property
    def unused_data(self) -> bytes:
        return self._decompressor.unused_data

    def decompress(self, data: bytes | memoryview, max_length: int, /) -> bytes:
        return self._decompressor.decompress(data, max_length)


def _load_xz() -> tuple[Callable[[], Inflater], tuple[type[Exception], ...]]:
    import lzma  # few archives are xz

    return _XzStream, (lzma.LZMAError, EOFError, MemoryError)
