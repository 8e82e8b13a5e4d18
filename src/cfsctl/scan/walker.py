"""The part of a scan that looks at files; it runs in workers.

A walker is given directories and visits them with all that is below, until it has spent its budget;
the rest goes back to be shared out again. Everything is accessed relative to descriptors.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cfsctl.digest import ObjectID
from cfsctl.errors import CfsError, LimitError
from cfsctl.limits import MAX_DEPTH
from cfsctl.linux.names import scan_directory
from cfsctl.scan.directories import Directories
from cfsctl.scan.files import (
    FILE_FLAGS,
    MAX_SMALL_BYTES,
    ChangedError,
    StoringError,
    check_state,
    file_state,
    read_whole,
)
from cfsctl.scan.fingerprint import digest_directory
from cfsctl.scan.recorder import Recorder
from cfsctl.scan.records import (
    BLOCK_DEVICE,
    CHAR_DEVICE,
    EXTERNAL,
    FIFO,
    INLINE,
    SOCKET,
    SYMLINK,
    FileToRead,
    ListedDirectory,
    Place,
    ReadReport,
    ReadTask,
    VisitReport,
    VisitTask,
)
from cfsctl.scan.xattrs import XattrReader, relative_place

if TYPE_CHECKING:
    from cfsctl.scan.cache import FileCache
    from cfsctl.scan.directories import Identity
    from cfsctl.scan.files import ContentReader, State
    from cfsctl.scan.records import Entry, Pairs, Report, Task
    from cfsctl.scan.xattrs import KeepXattr

INLINE_MAX_BYTES: Final = 64
"""Files up to this size are part of the image; larger ones become objects."""

_LEAVE_BYTES: Final = 1 << 20
"""Larger files are never read on the way, but handed out one by one, the largest first."""

_OVERDRAFT_BYTES: Final = 8 << 20
"""Bytes read beyond the budget to get done with a directory; what is left of it then is handed out too."""

_LIST_ATTEMPTS: Final = 3
"""How often a directory is listed that changes in the meantime, before that is an error."""

_MAX_LINKED: Final = 1 << 16
"""Files with several names whose ID a walker remembers, so that it reads them once."""

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENODATA, errno.ESTALE, errno.ENXIO})
"""What the kernel says of things that were there a moment ago, or were something else."""

_KINDS: Final = {
    stat.S_IFLNK: SYMLINK,
    stat.S_IFCHR: CHAR_DEVICE,
    stat.S_IFBLK: BLOCK_DEVICE,
    stat.S_IFIFO: FIFO,
    stat.S_IFSOCK: SOCKET,
}


_UNKNOWN_ID: Final = ObjectID(b"")


class _Here:
    """The directory that is being listed."""

    __slots__ = ("_prefix", "entries", "fd", "identity", "path", "unread")

    def __init__(self, fd: int, path: bytes, identity: Identity) -> None:
        self.fd = fd
        self.path = path
        self.identity = identity
        self.entries: list[Entry] = []
        self.unread: list[FileToRead] = []
        self._prefix = path + b"/" if path else b""

    def join(self, name: bytes) -> bytes:
        """Return the path of an entry, below the root."""
        return self._prefix + name


class _Waiting(NamedTuple):
    """An entry whose ID is still to be computed, together with those of others.

    Attributes:
        entries: Where it stands.
        place: At which index.
        path: Of the file, below the root.
        state: Of the file.
        may_record: Whether the cache may keep the ID.
    """

    entries: list[Entry]
    place: int
    path: bytes
    state: State
    may_record: bool


class Walker:
    """Does the tasks of one scan in one process."""

    def __init__(
        self,
        root: int,
        base: bytes,
        content: ContentReader,
        *,
        keep_xattr: KeepXattr | None,
        cache: FileCache | None,
        with_digests: bool = False,
    ) -> None:
        """Take what the scan uses.

        Args:
            root: Descriptor of the scanned directory, borrowed.
            base: Its path, for messages.
            content: Reads files. What it has learnt about the store before a fork is common knowledge.
            keep_xattr: Which attributes are kept, by name; None keeps all.
            cache: What earlier scans have read, or None.
            with_digests: Report digests of the directories as well.
        """
        self._base = base
        self._recorder = None if cache is None else Recorder(cache)
        self._directories = Directories(root)
        self._content = content
        self._xattrs = XattrReader(keep_xattr)
        self._linked: dict[State, ObjectID] = {}
        self._waiting: list[_Waiting] = []
        self._bytes_left = 0
        self._with_digests = with_digests

    def close(self) -> None:
        """Close the directories."""
        self._directories.close()

    def __call__(self, task: Task) -> Report:
        """Visit directories or read files.

        Raises:
            ChangedError: Something changed in the meantime.
            StaleCacheError: The cache was to be verified, and is wrong.
            OSError: Something cannot be read or stored.
        """
        try:
            if isinstance(task, ReadTask):
                object_ids = [self._read_later(file) for file in task.files]
                return ReadReport(task.number, object_ids, self._take_news())
            return self._visit(task)
        except ChangedError as error:
            raise error.beneath(self._base) from error.__cause__
        finally:  # after an error, another task may still come
            self._waiting.clear()
            self._content.clear()

    def _take_news(self) -> bytes:
        return b"" if self._recorder is None else self._recorder.drain_new()

    def _visit(self, task: VisitTask) -> VisitReport:
        self._bytes_left = task.max_bytes
        entries_left = task.max_entries
        waiting = task.places.copy()
        directories: list[ListedDirectory] = []
        paths: list[bytes] = []
        while waiting and entries_left > 0 and self._bytes_left > 0:
            place = waiting.pop()
            listed, places = self._list(place, ~len(directories))
            directories.append(listed)
            paths.append(place.path)
            waiting += places
            entries_left -= len(listed.entries) + 1
        self._finish_waiting()
        digests: list[bytes] = []
        if self._with_digests:  # entries are only complete now
            for path, listed in zip(paths, directories, strict=True):
                digests.append(b"" if listed.unread else digest_directory(path, listed))
        return VisitReport(directories, waiting, self._take_news(), digests)

    # Directories

    def _list(self, place: Place, number: int) -> tuple[ListedDirectory, list[Place]]:
        """Return a directory with its entries, and its subdirectories with this number for a parent."""
        if place.path and place.path.count(b"/") >= MAX_DEPTH:
            shown = os.fsdecode(_join(self._base, place.path[:250]))
            raise LimitError(f"{shown}...: nested deeper than {MAX_DEPTH} directories below the top")
        try:
            fd = self._directories.enter(place.path, place.identity)
            status, found = self._read_names(fd, place.path)
            xattrs = self._xattrs.read(fd)
        except OSError as error:
            raise self._locate(error, place.path) from error
        here = _Here(fd, place.path, (status.st_dev, status.st_ino))
        entries = here.entries
        places: list[Place] = []
        for item in found:
            name = os.fsencode(item.name)
            try:
                # The type that the listing gives, or the file's own where the file system gives none.
                if item.is_dir(follow_symlinks=False):
                    places.append(Place(number, here.identity, here.join(name)))
                else:
                    entries.append(self._look_at(here, name, item.stat(follow_symlinks=False)))
            except OSError as error:
                raise self._locate(error, here.join(name)) from error
        listed = ListedDirectory(
            place.parent,
            place.path.rpartition(b"/")[2],
            stat.S_IMODE(status.st_mode),
            status.st_uid,
            status.st_gid,
            status.st_mtime_ns,
            xattrs,
            entries,
            here.unread,
        )
        return listed, places

    @staticmethod
    def _read_names(fd: int, path: bytes) -> tuple[os.stat_result, list[os.DirEntry[Any]]]:
        """Return a directory's status and entries that belong together."""
        before = os.fstat(fd)
        for _ in range(_LIST_ATTEMPTS):
            with scan_directory(fd) as listing:
                found = list(listing)
            after = os.fstat(fd)
            if file_state(before) == file_state(after):
                # Inodes lie on disk in this order, which matters where reading is slow.
                found.sort(key=os.DirEntry.inode)
                return after, found
            before = after
        raise ChangedError(path, "its entries keep changing")

    # Entries

    def _look_at(self, here: _Here, name: bytes, status: os.stat_result) -> Entry:
        kind = stat.S_IFMT(status.st_mode)
        if kind == stat.S_IFREG:
            if status.st_size <= INLINE_MAX_BYTES:
                return self._read_inline(here, name, status)
            return self._look_at_external(here, name, status)
        if kind == stat.S_IFDIR:
            raise ChangedError(here.join(name), "a file was replaced by a directory")
        target = os.readlink(name, dir_fd=here.fd) if kind == stat.S_IFLNK else b""
        state = file_state(status)
        # No descriptor keeps these the same in the meantime.
        xattrs = self._read_xattrs(here, name, state)
        # Overlayfs links its whiteouts to each other to save inodes; each stays one of its own.
        is_linked = status.st_nlink > 1 and (kind != stat.S_IFCHR or status.st_rdev)
        linked_state = state if is_linked else None
        return _entry(_KINDS[kind], name, status, xattrs, linked_state, target, status.st_rdev)

    def _read_xattrs(self, here: _Here, name: bytes, state: State) -> Pairs | None:
        """Return the attributes of a file that is not opened."""
        xattrs = self._xattrs.read(relative_place(here.fd, name), follow=False)
        check_state(state, os.stat(name, dir_fd=here.fd, follow_symlinks=False), here.join(name))
        return xattrs

    def _read_inline(self, here: _Here, name: bytes, status: os.stat_result) -> Entry:
        state = file_state(status)
        path = here.join(name)
        fd = os.open(name, FILE_FLAGS, dir_fd=here.fd)
        try:
            xattrs = self._xattrs.read(fd)
            data = read_whole(fd, state, path)
        finally:
            os.close(fd)
        linked_state = state if status.st_nlink > 1 else None
        return _entry(INLINE, name, status, xattrs, linked_state, data, status.st_size)

    def _look_at_external(self, here: _Here, name: bytes, status: os.stat_result) -> Entry:
        state = file_state(status)
        is_linked = status.st_nlink > 1
        size = status.st_size
        if is_linked and any(state == waiting.state for waiting in self._waiting):
            self._finish_waiting()  # so that it is known under this name
        known = self._recall(state, is_linked=is_linked)
        if known is not None:
            object_id, is_plain = known
            xattrs = None if is_plain else self._read_xattrs(here, name, state)
        elif size > _LEAVE_BYTES or self._bytes_left < -_OVERDRAFT_BYTES:
            object_id = _UNKNOWN_ID
            # The file's reader checks that it still has this state, so these attributes are still its own.
            xattrs = self._xattrs.read(relative_place(here.fd, name), follow=False)
            here.unread.append(FileToRead(here.path, here.identity, name, state, xattrs is None))
        elif size <= MAX_SMALL_BYTES:
            object_id = _UNKNOWN_ID
            xattrs = self._take_now(here, name, state)
            self._bytes_left -= size
        else:
            object_id, xattrs = self._read_now(here, name, state)
            self._bytes_left -= size
            if is_linked and len(self._linked) < _MAX_LINKED:
                self._linked[state] = object_id
        return _entry(EXTERNAL, name, status, xattrs, state if is_linked else None, object_id, size)

    # Content

    def _recall(self, state: State, *, is_linked: bool) -> tuple[ObjectID, bool] | None:
        """Return the ID of content that needs no reading, and whether the file has no attributes."""
        if is_linked and (object_id := self._linked.get(state)) is not None:
            return object_id, False
        if self._recorder is not None:
            known = self._recorder.find(state)
            if known is not None and self._content.has(known[0], state[2]):
                return known
        return None

    def _take_now(self, here: _Here, name: bytes, state: State) -> Pairs | None:
        """Read a small file, which gets its ID together with others; return its attributes."""
        if self._content.is_full:
            self._finish_waiting()
        path = here.join(name)
        recorder = self._recorder
        fd = os.open(name, FILE_FLAGS, dir_fd=here.fd)
        try:
            xattrs = self._xattrs.read(fd)
            may_record = recorder is not None and recorder.may_record(fd, state)
            self._content.take(fd, state, path)
        finally:
            os.close(fd)
        self._waiting.append(_Waiting(here.entries, len(here.entries), path, state, may_record))
        return xattrs

    def _finish_waiting(self) -> None:
        """Give the small files that were read their IDs."""
        waiting = self._waiting
        if not waiting:
            return
        try:
            object_ids = self._content.finish()
        except StoringError as error:
            raise self._locate(error, os.fsencode(error.filename)) from error
        recorder = self._recorder
        for (entries, place, path, state, may_record), object_id in zip(waiting, object_ids, strict=True):
            entry = entries[place]
            entries[place] = (*entry[:8], object_id, entry[9])
            if entry[7] is not None and len(self._linked) < _MAX_LINKED:
                self._linked[state] = object_id
            if recorder is not None:
                recorder.check(state, object_id, _join(self._base, path))
                if may_record:
                    recorder.record(state, object_id, is_plain=entry[6] is None)
        waiting.clear()

    def _read_now(self, here: _Here, name: bytes, state: State) -> tuple[ObjectID, Pairs | None]:
        fd = os.open(name, FILE_FLAGS, dir_fd=here.fd)
        try:
            xattrs = self._xattrs.read(fd)
            return self._read_content(fd, state, here.join(name), is_plain=xattrs is None), xattrs
        finally:
            os.close(fd)

    def _read_later(self, file: FileToRead) -> ObjectID:
        """Read a file that was only looked at when its directory was visited."""
        try:
            dirfd = self._directories.find(file.directory, file.identity)
            fd = os.open(file.name, FILE_FLAGS, dir_fd=dirfd)
            try:
                check_state(file.state, os.fstat(fd), file.path)
                return self._read_content(fd, file.state, file.path, is_plain=file.is_plain)
            finally:
                os.close(fd)
        except OSError as error:
            raise self._locate(error, file.path) from error

    def _read_content(self, fd: int, state: State, path: bytes, *, is_plain: bool) -> ObjectID:
        recorder = self._recorder
        if recorder is None:
            return self._content.read(fd, state, path)
        may_record = recorder.may_record(fd, state)
        object_id = self._content.read(fd, state, path)
        recorder.check(state, object_id, _join(self._base, path))
        if may_record:
            recorder.record(state, object_id, is_plain=is_plain)
        return object_id

    def _locate(self, error: OSError, path: bytes) -> Exception:
        """Return the error that names what it is about."""
        if isinstance(error, CfsError):
            return error
        if isinstance(error, StoringError):
            return StoringError(error.errno, error.strerror, os.fsdecode(_join(self._base, path)))
        if error.errno in _GONE:
            return ChangedError(path, error.strerror or "it is gone")
        return OSError(error.errno, error.strerror, os.fsdecode(_join(self._base, path)))


def _join(directory: bytes, name: bytes) -> bytes:
    """Return the path of an entry of a directory; the root's own path is empty."""
    return directory + b"/" + name if directory else name


def _entry(
    kind: int,
    name: bytes,
    status: os.stat_result,
    xattrs: Pairs | None,
    state: State | None,
    payload: bytes,
    number: int,
) -> Entry:
    mode = status.st_mode & 0o7777
    mtime_ns = status.st_mtime_ns
    return kind, name, mode, status.st_uid, status.st_gid, mtime_ns, xattrs, state, payload, number
