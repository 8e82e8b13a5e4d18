"""Extended attributes of files, read by descriptor or relative to one."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.linux.xattrs import list_names, read_value

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.scan.records import Pairs

    KeepXattr = Callable[[bytes], bool]


class XattrReader:
    """Reads the attributes that a scan keeps, and no others."""

    __slots__ = ("_keep", "_kept")

    def __init__(self, keep: KeepXattr | None) -> None:
        """Take what decides by the name; None keeps all."""
        self._keep = keep
        self._kept: dict[str, bytes] = {}
        """Encoded names; empty for those that are not kept."""

    def read(self, place: int | bytes, *, follow: bool = True) -> Pairs | None:
        """Return the attributes of a file.

        Args:
            place: Descriptor or path.
            follow: Whether a path that is a symbolic link means its target.

        Returns:
            None if the file has none at all, otherwise those that are kept.

        Raises:
            OSError: ENODATA if one was removed between two calls; others as listxattr(2).
        """
        names = list_names(place, follow=follow)
        if not names:
            return None
        pairs = []
        for name in names:
            if kept := self._encode(name):
                value = read_value(place, name, follow=follow)
                if value is not None:
                    pairs.append((kept, value))
        return tuple(pairs)

    def _encode(self, name: str) -> bytes:
        """Return the name of an attribute that is kept, or nothing."""
        kept = self._kept.get(name)
        if kept is None:
            kept = os.fsencode(name)
            if self._keep is not None and not self._keep(kept):
                kept = b""
            self._kept[name] = kept
        return kept


def relative_place(dirfd: int, name: bytes) -> bytes:
    """Return a path that means an entry of an open directory, for calls that take no descriptor."""
    return b"/proc/self/fd/%d/%s" % (dirfd, name)
