"""The content of the files of a directory on disk whose tree was read before."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Final

from cfsctl.digest import Algorithm
from cfsctl.errors import IntegrityError
from cfsctl.fsverity.merkle import compute_digest
from cfsctl.inspection.diff import file_size
from cfsctl.linux.files import open_regular, read_all
from cfsctl.tree.model import ExternalFile, InlineFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.inspection.diff import File

_DIRECTORY: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryContents:
    """Reads files of a directory; what has changed since its tree was read is refused."""

    def __init__(self, path: str) -> None:
        """Open nothing yet.

        Args:
            path: The directory.
        """
        self._path = path

    def iter_content(self, path: bytes, file: File) -> Iterator[bytes]:
        """Yield the content of a file in one piece; no link is followed on the way to it.

        Raises:
            IntegrityError: It is not what it was when the tree was read.
            OSError: It cannot be read.
        """
        if isinstance(file, InlineFile):
            yield file.data
            return
        with contextlib.ExitStack() as opened:
            *directories, name = path.strip(b"/").split(b"/")
            at = _open(opened, os.open(self._path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            for one in directories:
                at = _open(opened, os.open(one, _DIRECTORY, dir_fd=at))
            data = read_all(_open(opened, open_regular(at, name)), file_size(file))
        if not isinstance(file, ExternalFile) or _digest(data, file) != file.object_id:
            raise IntegrityError(f"{os.fsdecode(path)}: changed while it was read")
        yield data


def _open(opened: contextlib.ExitStack, fd: int) -> int:
    opened.callback(os.close, fd)
    return fd


def _digest(data: bytes, file: ExternalFile) -> bytes:
    return compute_digest(data, Algorithm.of_digest(file.object_id))
