"""Archives of golden data, unpacked by every Python that we run on."""

from __future__ import annotations

import tarfile
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


def unpack_archive(archive: tarfile.TarFile, target: Path) -> None:
    """Unpack an archive of our own, as it is.

    Python 3.11.2, which Debian 12 has, knows no filters; later ones warn where none is named.
    """
    if hasattr(tarfile, "fully_trusted_filter"):
        archive.extractall(target, filter="fully_trusted")
    else:
        archive.extractall(target)
