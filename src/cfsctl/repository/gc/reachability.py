"""Why an object is in use: the path from a root to it, recorded while objects are marked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfsctl.digest import object_path

if TYPE_CHECKING:
    from collections.abc import Collection

    from cfsctl.digest import ObjectID


class ReachabilityPath:
    """How one object is reached, as the marking goes on.

    Attributes:
        target: The object.
        steps: What leads to it, from a root on; empty as long as it was not reached.
    """

    def __init__(self, target: ObjectID) -> None:
        """Start empty."""
        self.target = target
        self.steps: tuple[str, ...] = ()
        self._ways: dict[ObjectID, tuple[str, ...]] = {}

    def start(self, object_id: ObjectID, *steps: str) -> None:
        """Record what leads from outside to an image or a stream."""
        self._ways.setdefault(object_id, steps)
        if object_id == self.target:
            self._arrive(steps)

    def follow(self, outer: ObjectID, inner: ObjectID, steps: list[str]) -> None:
        """Record what leads from one stream to another object."""
        self.start(inner, *self._ways.get(outer, ()), *steps)

    def look(self, container: ObjectID, object_ids: Collection[ObjectID]) -> None:
        """Record what an image or a stream names."""
        if not self.steps and self.target in object_ids:
            self._arrive(self._ways.get(container, ()))

    def _arrive(self, steps: tuple[str, ...]) -> None:
        if not self.steps:
            self.steps = (*steps, f"objects/{object_path(self.target)}")
