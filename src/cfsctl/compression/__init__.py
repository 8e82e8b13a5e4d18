"""Compressed streams of bytes: one decoder for each kind, and one policy for all of them.

A decoder is fed compressed bytes in pieces of any size and gives back plain ones. All kinds keep the same
rules:

* Several gzip members, zstd frames or xz streams may follow one another; zstd frames that are to be skipped
  may stand anywhere. Nothing else may follow the last one, not even zeros. Where a format says that there is
  one member, nothing at all may follow that.
* The end of the input must be the end of a member. Input without any bytes holds no member and is refused.
* Checksums and lengths that the format records are compared.
* No piece of output is larger than `MAX_PIECE_BYTES`, and no decoder holds more than that and its window,
  whatever the input claims.
* More output than the caller allows is refused, also in the middle of a piece.

`CompressionError` is the only error that bytes can cause.
"""

from cfsctl.compression.base import (
    MAX_PIECE_BYTES,
    Compression,
    CompressionError,
    Decoder,
    TooMuchOutputError,
    TrailingError,
    TruncatedError,
    detect_compression,
)
from cfsctl.compression.decoders import iter_decoded, limit_output, make_decoder

__all__ = [
    "MAX_PIECE_BYTES",
    "Compression",
    "CompressionError",
    "Decoder",
    "TooMuchOutputError",
    "TrailingError",
    "TruncatedError",
    "detect_compression",
    "iter_decoded",
    "limit_output",
    "make_decoder",
]
