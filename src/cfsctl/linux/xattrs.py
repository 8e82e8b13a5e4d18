"""Read extended attributes, with the quirks of real file systems.

Security modules, overlays and FUSE servers list attributes that have no value. Such an attribute counts as
missing. An attribute that has disappeared from the list as well was removed in the meantime.
"""

from __future__ import annotations

import errno
import os
from typing import Final

from cfsctl.linux.names import HAS_LOSSLESS_NAMES

_NO_ATTRIBUTES: Final = frozenset({errno.EOPNOTSUPP, errno.ENODATA, errno.ENOSYS})
"""What file systems without attributes, or without any on this file, answer to listxattr(2)."""

_NO_VALUE: Final = frozenset({errno.ENODATA, errno.ENOENT, errno.EOPNOTSUPP, errno.ENOSYS})
_TOO_LARGE: Final = frozenset({errno.ERANGE, errno.E2BIG})


def list_names(place: int | str | bytes, *, follow: bool = True) -> list[str]:
    """Return the names of the attributes of a file.

    Raises:
        OSError: As listxattr(2), but not where there are none; EILSEQ for names that this locale changes.
    """
    try:
        names = os.listxattr(place, follow_symlinks=follow)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return []
        raise _explain(error, "the names of its attributes") from error
    if not HAS_LOSSLESS_NAMES and not all(map(str.isascii, names)):
        # Only text comes out of that call. The program runs in UTF-8 mode; another one that uses this as a
        # library may not.
        raise OSError(
            errno.EILSEQ, "names of attributes that are not ASCII can only be read in a UTF-8 locale"
        )
    return names


def read_value(place: int | str | bytes, name: str, *, follow: bool = True) -> bytes | None:
    """Return the value of an attribute that was listed, or None if it has none.

    Raises:
        OSError: ENODATA if it was removed in the meantime; otherwise as getxattr(2).
    """
    try:
        return os.getxattr(place, name, follow_symlinks=follow)
    except OSError as error:
        if error.errno not in _NO_VALUE:
            raise _explain(error, f"attribute {name}") from error
        if error.errno in {errno.ENODATA, errno.ENOENT} and name not in list_names(place, follow=follow):
            raise OSError(errno.ENODATA, f"attribute {name} was removed") from error
        return None


def _explain(error: OSError, what: str) -> OSError:
    if error.errno not in _TOO_LARGE:
        return error
    return OSError(error.errno, f"{what}: more than the 64 KiB that can be read at once")
