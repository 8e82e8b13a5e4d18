"""Looks files up in the cache, and records what was read; lives in a worker.

A record is made only if no later change can leave the file in the same state. A change gives the file
the current time as ctime, so it is enough that the file's ctime is in the past when reading begins:
by two seconds, more than any clock tick and any file system's resolution. One kind of change comes
later than its ctime: a process that has mapped the file, or is in the middle of a long write(2), can go
on without another mark until the page has been written back. So a file is recorded only if no process has
it open for writing; where the kernel does not tell, its ctime must be old enough for that.

A ctime is the kernel's only where the kernel has made the file. Programs that make whole file systems
write what they like, and the same into each of two images that may be mounted one after the other. They
have no fractions of a second, so a file with such a ctime is not recorded.

All that is only known of the file systems listed here.
"""

from __future__ import annotations

import struct
import time
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.errors import IntegrityError
from cfsctl.linux.leases import is_open_for_writing
from cfsctl.linux.syscalls import file_system_type
from cfsctl.scan.cache import IS_PLAIN, STATE, VALUE_HEAD, FileCache

if TYPE_CHECKING:
    from cfsctl.scan.files import State

_RACY_NS: Final = 2_000_000_000
_QUIET_NS: Final = 3600 * 1_000_000_000
"""Dirty pages are written back after 30 s (vm.dirty_expire_centisecs), or later where the disk is slow."""

_SECOND_NS: Final = 1_000_000_000

_TRUSTED_TYPES: Final = frozenset(
    {
        0xEF53,  # ext2, ext3, ext4
        0x58465342,  # XFS
        0x9123683E,  # Btrfs
        0xF2F52010,  # F2FS
        0xCA451A4E,  # bcachefs
    }
)
"""File systems that keep a ctime which the kernel sets on every change (linux/magic.h). Not among them:
tmpfs, where writing through a mapping leaves no mark; overlayfs, which may lie on it; FUSE and network
file systems, whose times come from another machine's clock; EROFS, SquashFS and ISO 9660, whose times were
chosen by a program."""


class StaleCacheError(IntegrityError):
    """A file whose content is not what the cache says."""


class Recorder:
    """One worker's view of the cache."""

    __slots__ = ("_cache", "_news", "_records", "_trusted")

    def __init__(self, cache: FileCache) -> None:
        """Share the cache's records; they are not changed."""
        self._cache = cache
        self._records = cache.records
        self._news: list[bytes] = []
        self._trusted: dict[int, bool] = {}

    def find(self, state: State) -> tuple[ObjectID, bool] | None:
        """Return what is known of a file in this state: its ID, and whether it has no attributes."""
        if self._cache.verify:
            return None
        key = _pack(state)
        value = self._records.get(key)
        if value is None:
            return None
        if self._cache.needs_refresh(value):
            self._news.append(key + VALUE_HEAD.pack(value[0], self._cache.today) + value[VALUE_HEAD.size :])
        return ObjectID(value[VALUE_HEAD.size :]), bool(value[0] & IS_PLAIN)

    def may_record(self, fd: int, state: State) -> bool:
        """Return whether what is read from now on will stay true as long as the state is the same.

        Args:
            fd: The file, open for reading only, borrowed.
            state: As it was found before.
        """
        ctime_ns = state[4]
        age_ns = time.time_ns() - ctime_ns
        if age_ns < _RACY_NS or not ctime_ns % _SECOND_NS or not self._is_trusted(state[0], fd):
            return False
        is_open = is_open_for_writing(fd)
        return age_ns >= _QUIET_NS if is_open is None else not is_open

    def _is_trusted(self, device: int, fd: int) -> bool:
        trusted = self._trusted.get(device)
        if trusted is None:
            trusted = self._trusted[device] = file_system_type(fd) in _TRUSTED_TYPES
        return trusted

    def record(self, state: State, object_id: ObjectID, *, is_plain: bool) -> None:
        """Record a file that was read and is still in this state."""
        key = _pack(state)
        if key:
            head = VALUE_HEAD.pack(IS_PLAIN if is_plain else 0, self._cache.today)
            self._news.append(key + head + object_id)

    def check(self, state: State, object_id: ObjectID, path: bytes) -> None:
        """Compare a file that was read with what the cache says of it.

        Raises:
            StaleCacheError: They differ.
        """
        if not self._cache.verify:
            return
        value = self._records.get(_pack(state))
        if value is not None and value[VALUE_HEAD.size :] != object_id:
            raise StaleCacheError(
                f"{path.decode(errors='replace')}: the scan cache says {value[VALUE_HEAD.size :].hex()}, "
                f"the content has the digest {object_id.hex()}",
                hint="scan with --no-cache, and please report how the file could change unnoticed",
            )

    def drain_new(self) -> bytes:
        """Return the records made since the last call, for `FileCache.absorb`."""
        news = b"".join(self._news)
        self._news.clear()
        return news


def _pack(state: State) -> bytes:
    """Return the state as the cache has it, or nothing for times that do not fit (after 2262)."""
    try:
        return STATE.pack(*state)
    except struct.error:
        return b""
