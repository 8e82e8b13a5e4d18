"""Code shared by readers and writers."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias

from cfsctl.gvariant.types import GVariantError, check_signature

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.gvariant.values import Value

Reader: TypeAlias = "Callable[[bytes, int, int, int, Budget], Value]"
"""Read one value: buffer, start, end, depth of the value, budget."""

STRUCT_CODES: Final = {
    "y": "B",
    "n": "h",
    "q": "H",
    "i": "i",
    "u": "I",
    "h": "i",
    "x": "q",
    "t": "Q",
    "d": "d",
}
"""Codes of `struct` for number types; booleans are checked by hand."""

_OBJECT_PATH: Final = re.compile(r"/(?:[A-Za-z0-9_]+(?:/[A-Za-z0-9_]+)*)?")


class Budget:
    """How many values may still be made.

    Attributes:
        left: Number of values.
    """

    __slots__ = ("left",)

    def __init__(self, left: int) -> None:
        """Store the number."""
        self.left = left

    def charge(self, count: int) -> None:
        """Take `count` values away.

        Raises:
            GVariantError: Fewer are left.
        """
        self.left -= count
        if self.left < 0:
            raise GVariantError(f"value: expected no more values, found {-self.left} over the limit")


def is_object_path(text: str) -> bool:
    """Return whether a text is a D-Bus object path."""
    return _OBJECT_PATH.fullmatch(text) is not None


def is_signature(text: str) -> bool:
    """Return whether a text is a list of complete definite types, without maybes, which D-Bus lacks."""
    if "m" in text:
        return False
    try:
        check_signature(text)
    except GVariantError:
        return False
    return True
