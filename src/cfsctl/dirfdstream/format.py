"""The format; see the package."""

from __future__ import annotations

from enum import IntEnum
from struct import Struct
from typing import Final

INLINE: Final = Struct("<BI")
REFERENCE: Final = Struct("<BQII")

MAX_INLINE_BYTES: Final = 256 << 20
"""Longest piece, as composefs-rs has it; an archive may have any number of them."""

MAX_NAME_BYTES: Final = 4096
"""Longest name of a file, with its directories."""


class Tag(IntEnum):
    """First byte of each piece."""

    METADATA = 0
    CONTENT = 1
    REFERENCE = 2
