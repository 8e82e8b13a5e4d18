"""All handles of the service, kept where all connections meet.

A handle belongs to the connection that opened it: nobody else can use it while that connection is open, and
what it holds goes with the connection. What remains is a record of the path, which costs nothing. A new
connection of the same user takes it over by using it: `varlinkctl` opens a connection for each call, and its
users open a repository with one call and use it with the next.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

ORPHAN_S: Final = 3600
"""How long the record of a handle stays whose connection has ended."""

MAX_ORPHANS: Final = 1000
"""Most of these records; the oldest go first."""

MAX_HANDLES: Final = 1000
"""Most handles that one connection may have."""


class HandleRecord(NamedTuple):
    """What is known about a handle.

    Attributes:
        path: The repository, absolute.
        device: Where its directory is; with `inode` it says whether this is still the same repository.
        inode: Number of its directory.
    """

    path: str
    device: int
    inode: int


class HandleStore(Protocol):
    """What a connection can do with handles."""

    def open(self, record: HandleRecord) -> int | None:
        """Return a new handle for a repository, or None if this connection has too many."""

    def find(self, handle: int) -> HandleRecord | None:
        """Return what a handle stands for, or None if this connection may not use it."""

    def close(self, handle: int) -> bool:
        """Forget a handle; return False if this connection may not use it."""


class Owner:
    """A connection as the owner of handles.

    Attributes:
        uid: The user at the other end.
        is_gone: Returns whether the other end has gone.
    """

    def __init__(self, uid: int, is_gone: Callable[[], bool]) -> None:
        """Start without handles."""
        self.uid = uid
        self.is_gone = is_gone


class _Entry(NamedTuple):
    record: HandleRecord
    owner: Owner
    ended_s: float | None


class Registry:
    """The handles of all connections; a number is never used again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without handles."""
        self._clock = clock
        self._last = 0
        self._entries: dict[int, _Entry] = {}

    def __len__(self) -> int:
        """Return how many handles are known."""
        return len(self._entries)

    def open(self, owner: Owner, record: HandleRecord) -> int | None:
        """Return a new handle, or None if its owner has too many."""
        if sum(entry.owner is owner for entry in self._entries.values()) >= MAX_HANDLES:
            return None
        self._last += 1
        self._entries[self._last] = _Entry(record, owner, None)
        return self._last

    def find(self, owner: Owner, handle: int) -> HandleRecord | None:
        """Return what a handle stands for if this owner may use it, whose handle it then is."""
        entry = self._entries.get(handle)
        if entry is None or entry.owner.uid != owner.uid:
            return None
        if entry.owner is not owner:
            if entry.ended_s is None and not entry.owner.is_gone():
                return None
            self._entries[handle] = _Entry(entry.record, owner, None)
        return entry.record

    def close(self, owner: Owner, handle: int) -> bool:
        """Forget a handle; return False if this owner may not use it."""
        if self.find(owner, handle) is None:
            return False
        del self._entries[handle]
        return True

    def end(self, owner: Owner) -> None:
        """Release all handles of a connection that has ended."""
        now = self._clock()
        for handle, entry in list(self._entries.items()):
            if entry.owner is owner:
                del self._entries[handle]  # so that the oldest come first
                self._entries[handle] = entry._replace(ended_s=now)
        self._drop(now)

    def _drop(self, now: float) -> None:
        orphans = [
            (handle, entry.ended_s) for handle, entry in self._entries.items() if entry.ended_s is not None
        ]
        for number, (handle, ended_s) in enumerate(orphans):
            if len(orphans) - number > MAX_ORPHANS or now - ended_s > ORPHAN_S:
                del self._entries[handle]
