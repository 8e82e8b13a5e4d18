"""Resources that belong to one process, such as connections.

Two processes cannot share a connection: their data would mix, and closing it in one process closes it for
both. So after a fork, the child creates its own and does not touch the inherited one.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

_inherited: Final[list[object]] = []
"""What other processes own; kept so that it is never finalised here."""


class ProcessLocal(Generic[T]):
    """Makes a thing when it is first wanted, once in each process."""

    def __init__(self, make: Callable[[], T]) -> None:
        """Make nothing yet."""
        self._make = make
        self._thing: T | None = None
        self._pid = 0

    def get(self) -> T:
        """Return this process' thing."""
        thing = self.find()
        if thing is None:
            self._pid = os.getpid()
            thing = self._thing = self._make()
        return thing

    def find(self) -> T | None:
        """Return this process' thing if it has been made."""
        if self._thing is not None and self._pid != os.getpid():
            _inherited.append(self._thing)
            self._thing = None
        return self._thing

    def drop(self) -> T | None:
        """Return this process' thing if there is one, and forget it."""
        thing = self.find()
        self._thing = None
        return thing
