"""Names of entries, and extended attributes."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, TypeAlias

from cfsctl.ostree.objects._base import (
    MAX_NAME_SIZE,
    MAX_XATTR_NAME_SIZE,
    MAX_XATTR_VALUE_SIZE,
    element_ends,
    fail,
    iter_elements,
    join_elements,
    join_members,
    split_members,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

Xattrs: TypeAlias = "tuple[tuple[bytes, bytes], ...]"
"""Extended attributes in stored order: (name with its final NUL, value)."""

_RESERVED_NAMES: Final = frozenset((b"", b".", b".."))


def check_name(name: bytes, field: str = "name") -> None:
    """Check a path component as a dirtree may hold it.

    Raises:
        OstreeObjectError: Empty, ``.``, ``..``, over 255 bytes, not UTF-8, or with a slash or NUL.
    """
    if name in _RESERVED_NAMES or b"/" in name or b"\0" in name:
        fail(field, "one path component", shown(name))
    if len(name) > MAX_NAME_SIZE:
        fail(field, f"at most {MAX_NAME_SIZE} bytes", len(name))
    try:
        name.decode()
    except UnicodeDecodeError:
        fail(field, "UTF-8", shown(name))


def shown(name: bytes) -> str:
    """Return a name for a message, cut to a length that people read."""
    return repr(name) if len(name) <= 80 else f"{name[:77]!r}... ({len(name)} bytes)"


def check_names(names: list[bytes]) -> None:
    """Check all names of a directory at once; look closer only when something is wrong."""
    joined = b"/".join(names)
    unique = frozenset(names)
    if (
        len(unique) == len(names)
        and joined.count(b"/") == len(names) - 1
        and b"\0" not in joined
        and _RESERVED_NAMES.isdisjoint(unique)
        and (joined.isascii() or is_utf8(joined))
        and (len(joined) <= MAX_NAME_SIZE or max(map(len, names)) <= MAX_NAME_SIZE)
    ):
        return
    for name in names:
        check_name(name)
    seen = set()
    for name in names:
        if name in seen:
            fail("name", "each name once", f"{shown(name)} twice")
        seen.add(name)


def is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def read_xattrs(data: bytes, *, may_lack_nul: bool = False) -> Xattrs:
    """Decode and check ``a(ayay)``; the order is kept as found.

    Args:
        data: The serialised array.
        may_lack_nul: Whether a name without its final NUL gets it here, instead of being refused.

    Raises:
        OstreeObjectError: See `parse_xattrs`.
    """
    if not data:
        return ()
    ends = element_ends(data, "xattrs")
    pairs = tuple(
        _read_xattr(element, may_lack_nul=may_lack_nul) for element in iter_elements(data, ends, "xattrs")
    )
    if len(pairs) > 1 and len({name for name, _ in pairs}) != len(pairs):
        fail("xattrs", "each name once", "a name twice")
    return pairs


def _read_xattr(element: bytes, *, may_lack_nul: bool) -> tuple[bytes, bytes]:
    name, value = split_members(element, 1, "xattrs")
    if may_lack_nul and not name.endswith(b"\0"):
        name += b"\0"
    _check_xattr(name, value)
    return name, value


def _check_xattr(name: bytes, value: bytes) -> None:
    if len(name) < 2 or name.find(b"\0") != len(name) - 1:
        fail("xattr name", "a name that ends in its only NUL", shown(name))
    if len(name) - 1 > MAX_XATTR_NAME_SIZE:
        fail("xattr name", f"at most {MAX_XATTR_NAME_SIZE} bytes", len(name) - 1)
    if len(value) > MAX_XATTR_VALUE_SIZE:
        fail(f"xattr {shown(name[:-1])}", f"at most {MAX_XATTR_VALUE_SIZE} bytes", len(value))


_read_common_xattrs = lru_cache(maxsize=256)(read_xattrs)
COMMON_SIZE: Final = 1024
"""Bytes up to which decoded attributes and headers are remembered: labels repeat in nearly every file."""


def parse_xattrs(data: bytes | memoryview) -> Xattrs:
    """Decode a list of extended attributes, ``a(ayay)``.

    Args:
        data: The serialised array; zero bytes are the empty list.

    Raises:
        OstreeObjectError: Not in normal form, a name without its final NUL or with another one, a
            name twice, or a name or value above the kernel's limits.
    """
    data = bytes(data)
    return _read_common_xattrs(data) if len(data) <= COMMON_SIZE else read_xattrs(data)


def format_xattrs(xattrs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """Serialise extended attributes as ``a(ayay)`` in the order given.

    Args:
        xattrs: (name with its final NUL, value); sort them by name for a new object.

    Raises:
        OstreeObjectError: A name or value that `parse_xattrs` would refuse.
    """
    pairs = list(xattrs)
    for name, value in pairs:
        _check_xattr(name, value)
    if len({name for name, _ in pairs}) != len(pairs):
        fail("xattrs", "each name once", "a name twice")
    return join_elements([join_members(pair) for pair in pairs])
