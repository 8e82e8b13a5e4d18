"""What parent and workers know of handlers and of each other's descriptors; loads nothing."""

from __future__ import annotations

import weakref
from typing import Protocol


class HasDescriptors(Protocol):
    """A resource of the parent that a worker must not use."""

    def forget(self) -> None:
        """Close this process' copies of its descriptors."""


parents_own: weakref.WeakSet[HasDescriptors] = weakref.WeakSet()
"""Pools of this process; a new worker closes its copies of their descriptors."""


def close_handler(handler: object) -> None:
    """Call the handler's ``close``, if it has one."""
    close = getattr(handler, "close", None)
    if close is not None:
        close()
