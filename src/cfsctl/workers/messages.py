"""Messages between parent and workers: a header, then a pickle."""

from __future__ import annotations

import struct
from typing import Final

FRAME = struct.Struct("<QB")
"""Header of a message: bytes of the pickle that follows, kind."""

KIND_VALUE: Final = 0
KIND_ERROR: Final = 1

RECEIVE_BYTES: Final = 1 << 18
