"""Limits of a pull, which protect against hostile repositories.

The limits here apply to a commit as a whole. Limits of single objects are in `objects`, where the parsers
need them. Callers may pass stricter limits.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from cfsctl.errors import LimitError
from cfsctl.limits import MAX_DEPTH, MAX_ENTRIES, MAX_METADATA_TOTAL_BYTES

MAX_HELD_FILE_BYTES: Final = 512 << 10
"""Bytes of a file that a pull holds in memory: header and inline content. An image has room for attributes of
256 KiB."""

ORDINARY_BYTES: Final = 1024
MAX_EXCESS_BYTES: Final = 64 << 20
"""Bytes of a file's header, or a directory's, that are ordinary, and what all of a commit may have beyond
that: attributes, which a tree holds in memory. Labels and capabilities have some hundred bytes."""

MAX_SHARED_COST: Final = 1_000_000
"""What a tree may come to however few dirtrees it is made of: entries, a directory counted as 8."""

MAX_SHARING: Final = 16
"""How many times its dirtrees a larger tree may come to."""

__all__ = [
    "MAX_DEPTH",
    "MAX_ENTRIES",
    "MAX_EXCESS_BYTES",
    "MAX_HELD_FILE_BYTES",
    "MAX_METADATA_TOTAL_BYTES",
    "MAX_SHARED_COST",
    "MAX_SHARING",
    "ORDINARY_BYTES",
    "LimitError",
    "PlanLimits",
]


class PlanLimits(NamedTuple):
    """What one commit may ask for.

    Attributes:
        max_entries: Entries of the whole tree, each occurrence of a shared subtree counted.
        max_depth: Nested directories below the root.
        max_metadata_bytes: Bytes of all metadata objects together.
        max_shared_cost: What the tree may come to by repeating dirtrees, see `MAX_SHARED_COST`.
        max_sharing: How many times its dirtrees it may come to beyond that.
    """

    max_entries: int = MAX_ENTRIES
    max_depth: int = MAX_DEPTH
    max_metadata_bytes: int = MAX_METADATA_TOTAL_BYTES
    max_shared_cost: int = MAX_SHARED_COST
    max_sharing: int = MAX_SHARING
