"""What a pull of nothing new may leave out: contents that were all looked at a short while ago.

An object that is removed, added or replaced changes the times of its directory. So where all contents of a
commit were found sound, and no directory of objects has changed since, only a change within a file can have
gone unseen. Such changes are looked for in a part of the objects each time, and in all of them once a day.
"""

from __future__ import annotations

import hashlib
import os
import time
from typing import TYPE_CHECKING, Final

from cfsctl.repository.objects.verified import CachedCheck, is_quiet

if TYPE_CHECKING:
    from collections.abc import Callable

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository

_WORTH_IT: Final = 4096
"""Contents of a commit from which on there is a difference."""

_PART: Final = 1024
"""Contents that are looked at each time, of commits that have no more than `_MOST_PARTS` times as many."""

_MOST_PARTS: Final = 64

_DAY_S: Final = 24 * 60 * 60


class Glance:
    """The contents of one stored commit, which may all have been looked at today.

    Attributes:
        is_known: Whether they were, and no directory of objects has changed since.
        is_worth_it: Whether there are so many of them that they are not all looked at each time.
    """

    def __init__(
        self,
        repository: Repository,
        stream_id: ObjectID,
        count: int,
        now_s: Callable[[], float] = time.time,
        draw: Callable[[], int] = lambda: int.from_bytes(os.urandom(4), "little"),
    ) -> None:
        """Look at the directories, if the contents are many.

        Args:
            repository: Where they are.
            stream_id: The splitstream object of the commit.
            count: How many contents the commit has.
            now_s: The time, in seconds.
            draw: Returns a number that chooses what is looked at.
        """
        self.is_worth_it = count >= _WORTH_IT and not repository.objects.is_secure
        self.is_known = False
        self._draw = draw
        self._fact: CachedCheck | None = None
        if not self.is_worth_it:
            return
        directories, latest_ns = repository.objects.describe_directories()
        now = now_s()
        # One that was changed more lately may change again at the same time of its file system.
        self._is_quiet = is_quiet(latest_ns, int(now * 1_000_000_000))
        fact = b"contents of the stream" + stream_id + hashlib.sha256(directories).digest()
        fact += int(now // _DAY_S).to_bytes(8, "little")
        self._fact = CachedCheck(repository.verified, fact, repository.objects.stat(stream_id))
        self.is_known = self._fact.is_known

    def choose(self, count: int) -> slice:
        """Return which of so many contents have to be looked at now."""
        if not self.is_known:
            return slice(0, count)
        parts = min(max(count // _PART, 1), _MOST_PARTS)
        part = self._draw() % parts
        return slice(count * part // parts, count * (part + 1) // parts)

    def record(self) -> None:
        """Record that all contents were looked at and found sound."""
        if self._fact is not None and self._is_quiet:
            self._fact.record()
