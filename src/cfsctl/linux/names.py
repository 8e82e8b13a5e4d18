"""Names of files in every locale.

Python decodes names with the encoding of the locale. In UTF-8 every sequence of bytes comes back as it was.
In others, such as Big5, two sequences of bytes are one character, and a file could be taken for another.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

HAS_LOSSLESS_NAMES: Final = sys.getfilesystemencoding() == "utf-8"
"""Whether every name survives being decoded and encoded again."""


def scan_directory(fd: int) -> AbstractContextManager[Iterator[os.DirEntry[Any]]]:
    """Return the entries of an open directory, whose names `os.fsencode` makes bytes as the kernel has them.

    Raises:
        OSError: As scandir(3); where names have to be bytes, ENOENT without ``/proc``.
    """
    # By descriptor, which is quicker, names are always text.
    return os.scandir(fd) if HAS_LOSSLESS_NAMES else os.scandir(b"/proc/self/fd/%d" % fd)
