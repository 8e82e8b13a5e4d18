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

from cfsctl.repository.objects.verified import CachedCheck

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from cfsctl.digest import ObjectID
    from cfsctl.repository import Repository

_WORTH_IT: Final = 4096
"""Contents of a commit from which on there is a difference."""

_SAMPLE: Final = 16
"""One in this many contents is looked at each time, those with the same first digit."""

_DAY_S: Final = 24 * 60 * 60
_QUIET_NS: Final = 2_000_000_000
"""Directories that were changed more lately may change again at the same time of their file system."""


class Glance:
    """The contents of one stored commit, which may all have been looked at today."""

    def __init__(
        self,
        repository: Repository,
        stream_id: ObjectID,
        contents: Collection[ObjectID],
        now_s: Callable[[], float] = time.time,
        draw: Callable[[], int] = lambda: os.urandom(1)[0] % _SAMPLE,
    ) -> None:
        """Look at the directories, if the contents are many.

        Args:
            repository: Where they are.
            stream_id: The splitstream object of the commit.
            contents: All that the commit needs.
            now_s: The time, in seconds.
            draw: Chooses what is looked at, by the first digit of the name.
        """
        self._contents = contents
        self._draw = draw
        self._fact: CachedCheck | None = None
        if len(contents) < _WORTH_IT or repository.objects.is_secure:
            return
        state, latest_ns = repository.objects.describe_directories()
        now = now_s()
        self._is_quiet = latest_ns + _QUIET_NS < now * 1_000_000_000
        fact = b"contents of the stream" + stream_id + hashlib.sha256(state).digest()
        fact += int(now // _DAY_S).to_bytes(8, "little")
        self._fact = CachedCheck(repository.verified, fact, repository.objects.stat(stream_id))

    @property
    def sample(self) -> Collection[ObjectID]:
        """What has to be looked at now."""
        if self._fact is None or not self._fact.is_known:
            return self._contents
        digit = self._draw()
        return [object_id for object_id in self._contents if object_id[0] >> 4 == digit]

    def record(self) -> None:
        """Record that all contents were looked at and found sound."""
        if self._fact is not None and self._is_quiet:
            self._fact.record()
