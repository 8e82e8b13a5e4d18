"""When written data reaches the disk; docs/explanation/durability.md describes all of it."""

from __future__ import annotations

from enum import Enum


class Durability(Enum):
    """How far a repository is protected from a power failure.

    A process that is killed loses nothing in any of them: what it wrote is the kernel's.
    """

    PER_OBJECT = "per-object"
    """Content is on the disk before the object has its name, and the barrier is passed as well."""

    BARRIER = "barrier"
    """All content of an operation is on the disk before the first name that leads to it."""

    NONE = "none"
    """The kernel writes when it likes; after a power failure names may lead to anything."""
