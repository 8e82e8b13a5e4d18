"""Store files as objects without copying them: by a reflink, or else by a hard link.

A reflink shares blocks and nothing else, so any file will do. A hard link shares the file itself, and whoever
may change the file changes the object. So a file is only linked if

* this process has CAP_DAC_READ_SEARCH, as composefs-rs demands, and owns the file, which is a regular one;
* no other user may write to it, and nobody has it open for writing;
* it gives no rights: it is not set-user-ID or set-group-ID, and has neither file capabilities nor an access
  control list. Other users can reach objects, but not files in the directories that they come from;
* it did not change while it was digested. fs-verity is enabled on it where the file system can do that.

Any other file is copied, even if copies are not wanted: whole trees would be refused for one ``su``.
"""

from __future__ import annotations

import os
import stat
from enum import Enum
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import CfsError
from cfsctl.fsverity.kernel import VerityBusyError
from cfsctl.fsverity.merkle import Hasher
from cfsctl.linux.capabilities import CAP_DAC_READ_SEARCH, has_capability
from cfsctl.linux.leases import is_open_for_writing
from cfsctl.linux.xattrs import list_names
from cfsctl.repository.objects.ingest import ContentIngest, WrongSizeError, ingest_clone
from cfsctl.repository.objects.store import StoredObject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.repository.objects.store import ObjectStore

_READ_BYTES: Final = 1 << 18
_GIVING_RIGHTS: Final = stat.S_ISUID | stat.S_ISGID | stat.S_IWGRP | stat.S_IWOTH
_RIGHTS: Final = frozenset({"security.capability", "system.posix_acl_access"})


class Sharing(Enum):
    """Whether files are shared with the place that they come from."""

    DISABLED = "disabled"
    REFLINK = "reflink"
    AUTO = "auto"
    REQUIRED = "zerocopy"


class How(Enum):
    """How a file became an object."""

    PRESENT = "present"
    COPIED = "copied"
    REFLINKED = "reflinked"
    HARDLINKED = "hardlinked"


class CannotShareError(CfsError):
    """Files that can be neither reflinked nor hard-linked where that is demanded."""


class SharedObject(NamedTuple):
    """An object and how it was stored."""

    stored: StoredObject
    how: How


class FileSharer:
    """Stores files as objects, by the cheapest way that works."""

    def __init__(self, objects: ObjectStore, sharing: Sharing) -> None:
        """Store nothing yet.

        Args:
            objects: Where objects go.
            sharing: What is allowed.
        """
        self._objects = objects
        self._is_required = sharing is Sharing.REQUIRED
        self._may_clone = sharing is not Sharing.DISABLED
        self._may_link = sharing in {Sharing.AUTO, Sharing.REQUIRED}
        self._why_not = ""
        if self._may_link and not has_capability(CAP_DAC_READ_SEARCH):
            self._forbid_links(
                "hardlinking objects requires CAP_DAC_READ_SEARCH (run as root or use the copy fallback)"
            )

    def store(self, fd: int, size: int, observe: Callable[[bytes], object]) -> SharedObject:
        """Store the content of an open file.

        Args:
            fd: The file, open for reading, borrowed.
            size: Bytes that it is to have.
            observe: Called with its content, in pieces and in order.

        Raises:
            WrongSizeError: It has another size.
            CannotShareError: It can only be copied, and that is not allowed.
            OSError: It could not be read or stored.
        """
        if self._may_clone:
            cloned = ingest_clone(self._objects, fd, size, observe, lambda: None)
            if cloned is not None:
                return _describe(cloned, How.REFLINKED)
            self._may_clone = False
        if not self._may_link:
            self._check_may_copy()
            return self._copy(fd, size, observe)
        return self._link(fd, size, observe) if _may_be_linked(fd) else self._copy(fd, size, observe)

    def _forbid_links(self, reason: str) -> None:
        self._may_link = False
        self._why_not = reason

    def _check_may_copy(self) -> None:
        if self._is_required:
            raise CannotShareError(
                "reflink and hardlink both failed; copy fallback is disabled (zerocopy mode)"
                f"{f': {self._why_not}' if self._why_not else ''}",
                hint="files can be shared only on one file system, and hard-linked only on one mount",
            )

    def _link(self, fd: int, size: int, observe: Callable[[bytes], object]) -> SharedObject:
        before = os.fstat(fd)
        hasher = Hasher(self._objects.algorithm)
        for data in iter_content(fd, size):
            hasher.update(data)
            observe(data)
        object_id = hasher.digest()
        if self._objects.is_sound(object_id, size):
            return SharedObject(StoredObject(object_id, size, is_new=False), How.PRESENT)
        if _has_changed(before, os.fstat(fd)):
            raise WrongSizeError("the file was changed while it was read")
        stored = self._adopt(fd, object_id, size)
        if stored is not None:
            return SharedObject(stored, How.HARDLINKED)
        if not self._may_link:
            self._check_may_copy()
        with self._objects.create() as writer:
            writer.write_file(fd)
            return _describe(writer.commit(object_id), How.COPIED)

    def _adopt(self, fd: int, object_id: ObjectID, size: int) -> StoredObject | None:
        try:
            stored = self._objects.adopt(fd, object_id, size)
        except VerityBusyError:
            return None  # open for writing somewhere since
        if stored is None and not self._objects.contains(object_id):
            self._forbid_links("the files are on another file system or mount, or links are forbidden")
        return stored

    def _copy(self, fd: int, size: int, observe: Callable[[bytes], object]) -> SharedObject:
        content = ContentIngest(self._objects, size)
        try:
            for data in iter_content(fd, size):
                observe(data)
                content.write(data)
            return _describe(content.finish(), How.COPIED)
        finally:
            content.abort()


def _describe(stored: StoredObject, how: How) -> SharedObject:
    return SharedObject(stored, how if stored.is_new else How.PRESENT)


def _may_be_linked(fd: int) -> bool:
    """Return whether an object may be the same file; see the top of this module."""
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid() or status.st_mode & _GIVING_RIGHTS:
        return False
    return _RIGHTS.isdisjoint(list_names(fd)) and not is_open_for_writing(fd)


def _has_changed(before: os.stat_result, after: os.stat_result) -> bool:
    return (before.st_size, before.st_mtime_ns, before.st_ctime_ns) != (
        after.st_size,
        after.st_mtime_ns,
        after.st_ctime_ns,
    )


def iter_content(fd: int, size: int) -> Iterator[bytes]:
    """Yield the content of a file, read by offset.

    Raises:
        WrongSizeError: There are fewer bytes, or more.
    """
    position = 0
    while data := os.pread(fd, _READ_BYTES, position):
        position += len(data)
        if position > size:
            raise WrongSizeError(f"expected {size} bytes of content, found more")
        yield data
    if position != size:
        raise WrongSizeError(f"expected {size} bytes of content, found {position}")
