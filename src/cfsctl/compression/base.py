"""What all decoders have in common."""

from __future__ import annotations

from enum import Enum
from typing import TYPE_CHECKING, Final, Protocol

from cfsctl.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_PIECE_BYTES: Final = 1 << 18
"""Most bytes of one piece of output."""


class Compression(Enum):
    """How a stream is compressed."""

    NONE = "none"
    GZIP = "gzip"
    ZSTD = "zstd"
    XZ = "xz"


class CompressionError(FormatError):
    """Bytes that are not what their compression says."""


class TooMuchOutputError(CompressionError):
    """A stream that unpacks to more than is allowed."""


class Decoder(Protocol):
    """Unpacks one stream; see the rules of the package."""

    def decode(self, data: bytes | memoryview, /) -> Iterator[bytes | memoryview]:
        """Unpack the next piece of input; the iterator must be used up before the next call.

        Raises:
            CompressionError: It is not valid, or there is too much of it.
        """

    def finish(self) -> None:
        """Record the end of the input.

        Raises:
            CompressionError: The stream is not complete.
        """


_MAGICS: Final = (
    (b"\x1f\x8b", Compression.GZIP),
    (b"\x28\xb5\x2f\xfd", Compression.ZSTD),
    (b"\xfd7zXZ\0", Compression.XZ),
)


def detect_compression(head: bytes) -> Compression:
    """Return how a stream is compressed that starts with these bytes; six of them are enough."""
    for magic, kind in _MAGICS:
        if head.startswith(magic):
            return kind
    is_skippable = len(head) >= 4 and head[0] & 0xF0 == 0x50 and head[1:4] == b"\x2a\x4d\x18"
    return Compression.ZSTD if is_skippable else Compression.NONE


def truncated(kind: Compression) -> CompressionError:
    """Return the error for input that ends too early."""
    return CompressionError(f"{kind.value} data: unexpected end, expected more bytes")


def trailing(kind: Compression, unit: str, data: bytes | memoryview) -> CompressionError:
    """Return the error for what follows a complete member and starts no other."""
    found = bytes(data[:4]).hex(" ")
    return CompressionError(f"{kind.value} data: expected {unit} or the end, found bytes {found}")
