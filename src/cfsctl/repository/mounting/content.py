"""Opening the content of files for a FUSE server, and checking it."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.digest import object_path, qualified
from cfsctl.errors import DigestMismatchError, IntegrityError
from cfsctl.fsverity.merkle import compute_file_digest
from cfsctl.linux.syscalls import RESOLVE_BENEATH, RESOLVE_NO_MAGICLINKS, RESOLVE_NO_SYMLINKS, openat2
from cfsctl.repository.objects.reader import Measured
from cfsctl.repository.objects.verified import mark_of

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID
    from cfsctl.fuse.files import Stored
    from cfsctl.repository.objects.store import ObjectStore

_MAX_MARKS: Final = 1 << 16
"""Objects that are known to have been right; beyond, all are read again."""

_INSIDE: Final = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS


class ContentOpener:
    """Opens objects; implements `cfsctl.fuse.operations.Opener`.

    Attributes:
        checks: Whether content is compared with its digest when it is opened. If the kernel has no digest of
            an object, the object is read, unless that was done before and its file has not changed since.
    """

    def __init__(self, objects: ObjectStore, *, checks: bool) -> None:
        """Take the objects of the repository."""
        self.checks = checks
        self._objects = objects
        self._marks: set[int] = set()

    def open(self, stored: Stored) -> int:
        """Return a descriptor of a file's content, for reading, owned by the caller.

        Raises:
            IntegrityError: It is missing, of another size, or another content.
            OSError: It cannot be opened.
        """
        fd, status, is_measured = self._open(stored)
        try:
            _check_size(stored, status)
            if self.checks and not is_measured:
                self._check_digest(fd, stored, status)
        except BaseException:
            os.close(fd)
            raise
        return fd

    def _open(self, stored: Stored) -> Measured:
        """Return the open file, and whether the kernel vouches for what is read from it."""
        object_id, path = stored.object_id, stored.path
        if path is None and object_id is not None:
            return self._objects.open_measured(object_id)
        # Only images of the C tools name content by something else than its digest.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
        fd = openat2(self._objects.objects_fd(), path or b"", flags, resolve=_INSIDE)
        return Measured(fd, os.fstat(fd), is_measured=False)

    def _check_digest(self, fd: int, stored: Stored, status: os.stat_result) -> None:
        object_id = stored.object_id
        if object_id is None:
            raise IntegrityError(
                f"content at {_path_of(stored)}: the image has no digest of it, and the repository "
                "requires one"
            )
        mark = mark_of(object_id, status)
        if mark in self._marks:
            return
        found, _ = compute_file_digest(fd, self._objects.algorithm)
        check_digest(object_id, found)
        if len(self._marks) >= _MAX_MARKS:
            self._marks.clear()
        self._marks.add(mark)


def _check_size(stored: Stored, status: os.stat_result) -> None:
    if status.st_size != stored.size or not stat.S_ISREG(status.st_mode):
        raise IntegrityError(
            f"content at {_path_of(stored)}: expected a file of {stored.size} bytes, "
            f"found {status.st_size} bytes"
        )


def _path_of(stored: Stored) -> str:
    """Return where content is below the objects, for messages."""
    if stored.path is None and stored.object_id is not None:
        return object_path(stored.object_id)
    return os.fsdecode(stored.path or b"")


def check_digest(object_id: ObjectID, found: ObjectID) -> None:
    """Compare the digest of an object with its ID.

    Raises:
        DigestMismatchError: It is another one.
    """
    if found != object_id:
        raise DigestMismatchError(
            f"object {qualified(object_id)}", expected=object_id.hex(), actual=found.hex()
        )
