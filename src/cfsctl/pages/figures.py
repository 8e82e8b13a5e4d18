"""What names, sizes, shares and times look like on a page.

Names come from outside. Here they become text: bytes that are not UTF-8, control characters, and characters
that change the direction of text are shown as escapes, and very long ones are cut in the middle. Markup is
escaped later, where a template puts text into its place.
"""

from __future__ import annotations

import os
import time
from typing import Final

from cfsctl.text import format_size, printable

__all__ = ["count", "day", "exact", "moment", "name", "share", "short_id", "signed_size", "size"]

_MAX_NAME: Final = 400
"""Characters of a name that are shown; a path may have thousands."""

_MINUS: Final = "\u2212"


def name(value: bytes | str) -> str:
    """Return a name or a line from outside as text that shows what it is."""
    text = printable(os.fsdecode(value) if isinstance(value, bytes) else value)
    if len(text) <= _MAX_NAME:
        return text
    half = _MAX_NAME // 2
    return f"{text[:half]} \u2026 {text[-half:]}"


def size(value: int) -> str:
    """Return a number of bytes in human units."""
    return format_size(value)


def exact(value: int) -> str:
    """Return a number of bytes with all its digits, in groups."""
    return f"{value:,} {'byte' if value == 1 else 'bytes'}"


def signed_size(value: int) -> str:
    """Return by how many bytes something grew or shrank."""
    sign = "+" if value > 0 else _MINUS if value < 0 else ""
    return f"{sign}{format_size(abs(value))}"


def count(value: int) -> str:
    """Return a number in groups of digits."""
    return f"{value:,}"


def share(part: int, whole: int) -> str:
    """Return a part of a whole in percent."""
    if not whole:
        return "0 %"
    percent = 100 * part / whole
    return "<0.1 %" if 0 < percent < 0.1 else f"{percent:.1f} %" if percent < 99.95 else "100 %"


def short_id(value: str) -> str:
    """Return the beginning of an ID, without what stands before its digits."""
    return name(value.rpartition(":")[2][:12])


def day(seconds: float) -> str:
    """Return a time as date and minute in UTC, or the number where the calendar has no such day."""
    try:
        return time.strftime("%Y-%m-%d %H:%M", time.gmtime(seconds))
    except (ValueError, OverflowError, OSError):
        return str(int(seconds))


def moment(seconds: float) -> str:
    """Return the same for machines, or nothing where the calendar has no such day."""
    try:
        moment = time.gmtime(seconds)
    except (ValueError, OverflowError, OSError):
        return ""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment) if 1 <= moment.tm_year <= 9999 else ""
