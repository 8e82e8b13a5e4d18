"""Ceilings of a pull: what a repository may ask of us before it is refused.

Sizes of single objects have their limits in `objects`, since the parsers need them; these are about a
commit as a whole. A caller may pass stricter ones.
"""

from __future__ import annotations

from dataclasses import dataclass

from cfsctl.errors import LimitError
from cfsctl.limits import MAX_DEPTH, MAX_ENTRIES, MAX_METADATA_TOTAL_BYTES

__all__ = ["MAX_DEPTH", "MAX_ENTRIES", "MAX_METADATA_TOTAL_BYTES", "LimitError", "PlanLimits"]


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What one commit may ask for.

    Attributes:
        max_entries: Entries of the whole tree, each occurrence of a shared subtree counted.
        max_depth: Nested directories below the root.
        max_metadata_bytes: Bytes of all metadata objects together.
    """

    max_entries: int = MAX_ENTRIES
    max_depth: int = MAX_DEPTH
    max_metadata_bytes: int = MAX_METADATA_TOTAL_BYTES
