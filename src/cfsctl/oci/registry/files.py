"""Configuration files of users and administrators, read within limits."""

from __future__ import annotations

import os
from typing import Final

from cfsctl.errors import FormatError
from cfsctl.linux.files import open_regular, read_all

_MAX_FILE_BYTES: Final = 4 << 20
_AT_FDCWD: Final = -100


class RegistryConfigError(FormatError):
    """A configuration file that is not valid."""


def read_config_file(path: str, error: type[FormatError] = RegistryConfigError) -> bytes | None:
    """Return the content of a file that the user or administrator has written, or None if none exists.

    Args:
        path: The file.
        error: What is raised if it is too large.

    Raises:
        FormatError: It is too large.
        OSError: It cannot be read, or is not a regular file.
    """
    try:
        fd = open_regular(_AT_FDCWD, os.path.realpath(path))
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        if os.fstat(fd).st_size > _MAX_FILE_BYTES:
            raise error(f"{path}: expected at most {_MAX_FILE_BYTES} bytes")
        return read_all(fd, _MAX_FILE_BYTES)
    finally:
        os.close(fd)
