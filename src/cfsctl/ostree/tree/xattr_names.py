"""How names of extended attributes in commits are read; apart from the rest, which options never load."""

from __future__ import annotations

from enum import Enum


class XattrNames(Enum):
    """What becomes of the NUL that ends each name of an extended attribute in OSTree's objects."""

    STRIPPED = "stripped"
    """It is not part of the name."""

    UPSTREAM = "upstream"
    """It is kept, as composefs-rs does: the kernel then finds no attribute by its name. For
    comparison only."""
