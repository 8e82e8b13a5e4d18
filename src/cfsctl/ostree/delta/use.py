"""Statistics of a delta; a separate module, because many pulls never load the rest of the package."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(slots=True)
class DeltaStats:
    """What a pull had of a delta.

    Attributes:
        description: Which delta.
        parts: Parts that were run.
        metadata: Commit, dirtrees and dirmetas that it made.
        files: Content objects that it made.
        received_bytes: Size of its parts, as they came.
    """

    description: str
    parts: int = 0
    metadata: int = 0
    files: int = 0
    received_bytes: int = 0
