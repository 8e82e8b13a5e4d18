"""Times as documents have them."""

from __future__ import annotations

import re
import time
from typing import Final

_NANOSECONDS: Final = re.compile(r"(\.\d{6})\d+")
"""More digits than `datetime` takes."""


def format_timestamp(seconds: float) -> str | None:
    """Return a time as RFC 3339 has it, in UTC; None where it has no such year."""
    try:
        moment = time.gmtime(seconds)
    except (ValueError, OverflowError, OSError):
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", moment) if 1 <= moment.tm_year <= 9999 else None


def parse_timestamp(text: str) -> float | None:
    """Return the seconds since 1970 in a time of RFC 3339, or None for any other text."""
    from datetime import UTC, datetime  # few lists have any

    try:
        moment = datetime.fromisoformat(_NANOSECONDS.sub(r"\1", text))
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None
