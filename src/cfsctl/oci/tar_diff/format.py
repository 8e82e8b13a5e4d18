r"""The format of patches.

    magic     ``tardf1\n\0`` or ``tardf2\n\0``
    zstd      operations: a byte, a number (7 bits a byte, low ones first), for some as many bytes as it says

    0 data    the bytes are output                3 add     the bytes are added to those of the open file
    1 open    the bytes are a path                4 seek    the number is the place in the open file
    2 copy    so many bytes of the open file      5 frame   a zstd frame; its prefix is the whole open file

Operation 5 needs the second magic.
"""

from __future__ import annotations

from typing import Final

MEDIA_TYPE: Final = "application/vnd.tar-diff"

MAGIC_1: Final = b"tardf1\n\0"
MAGIC_2: Final = b"tardf2\n\0"

DATA, OPEN, COPY, ADD, SEEK, FRAME = range(6)

MAX_PATH_BYTES: Final = 4096
MAX_ADD_BYTES: Final = 100 << 20
MAX_PREFIX_BYTES: Final = 512 << 20
MAX_WINDOW_BYTES: Final = 1 << 29
