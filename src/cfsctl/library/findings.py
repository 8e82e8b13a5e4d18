"""What an examination of the machine finds."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple


class FindingState(Enum):
    """The state of something that was examined."""

    OK = "ok"
    MISSING = "missing"
    UNKNOWN = "unknown"
    """It could not be found out here."""


class Finding(NamedTuple):
    """One thing that was looked at.

    Attributes:
        name: What it is.
        state: Its state.
        found: What was found, in a sentence.
        advice: What to do about it, or None.
        is_needed: Whether something that most users need does not work without it.
    """

    name: str
    state: FindingState
    found: str
    advice: str | None = None
    is_needed: bool = True
