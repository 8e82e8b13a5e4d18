"""Shared base of all decoders."""

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


class TruncatedError(CompressionError):
    """Input that ends before its last member does."""


class TrailingError(CompressionError):
    """Bytes that follow a complete member and start no other that may follow."""


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


def truncated(kind: Compression) -> TruncatedError:
    """Return the error for input that ends too early."""
    return TruncatedError(f"{kind.value} data: unexpected end, expected more bytes")


def not_a_member(
    kind: Compression, unit: str | None, data: bytes | memoryview, *, is_first: bool
) -> CompressionError:
    """Return the error for bytes that start no member.

    Args:
        kind: What is unpacked.
        unit: What might have started there; None if nothing might.
        data: The bytes.
        is_first: Whether they are the first ones.
    """
    found = bytes(data[:4]).hex(" ")
    expected = "the end" if unit is None else unit if is_first else f"{unit} or the end"
    return (CompressionError if is_first else TrailingError)(
        f"{kind.value} data: expected {expected}, found bytes {found}"
    )
