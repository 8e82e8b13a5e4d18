"""Walk a directory and make a tree of it.

Everything is looked at relative to descriptors and no link is ever followed. One process walks and
reads what is small; workers read what is large, while the walk goes on. The walk uses no recursion and
a bounded number of descriptors, however deep the directories are.
"""

from __future__ import annotations

import errno
import os
import stat
from typing import TYPE_CHECKING, Final

from cfsctl.digest import ObjectID
from cfsctl.scan.files import (
    ChangedError,
    FileReader,
    FileTask,
    Results,
    State,
    check_state,
    file_state,
    read_exactly,
)
from cfsctl.tree.bulk import paused_collector
from cfsctl.tree.model import (
    NO_XATTRS,
    BlockDevice,
    CharDevice,
    Directory,
    ExternalFile,
    Fifo,
    FileSystem,
    InlineFile,
    Leaf,
    Node,
    Socket,
    Symlink,
)
from cfsctl.workers import WorkerPool

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from cfsctl.digest import Algorithm
    from cfsctl.scan.store import ObjectSink

    KeepXattr = Callable[[bytes], bool]

INLINE_MAX_BYTES: Final = 64
"""Files up to this size are part of the image; larger ones become objects."""

_BATCH_BYTES: Final = 4 << 20
_BATCH_FILES: Final = 128
"""A worker gets files by the batch, so that asking costs little, and small ones, so that all are busy."""

_OPEN_LEVELS: Final = 200
"""Directories kept open on the way down; those further up are opened again on the way back."""

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_UNKNOWN_ID: Final = ObjectID(b"")


def scan_directory(
    path: str,
    *,
    algorithm: Algorithm,
    store: ObjectSink | None = None,
    keep_xattr: KeepXattr | None = None,
    hard_links: bool = True,
    workers: int | None = None,
) -> FileSystem:
    """Return the tree of a directory.

    Mount points are crossed, nothing is left out, and times of access do not count.

    Args:
        path: The directory; a symbolic link is refused.
        algorithm: Hash algorithm of the objects.
        store: Where files of more than 64 bytes are stored, or None to compute their IDs only.
        keep_xattr: Says by its name whether an extended attribute is taken over; None keeps all.
        hard_links: Keep the names of one file together; otherwise each name is a file of its own.
        workers: Processes that read files; None is one for each processor, 0 reads them in this one.

    Raises:
        ChangedError: A file changed meanwhile.
        OSError: Something cannot be read.
    """
    root = os.open(path, _DIRECTORY_FLAGS)
    try:
        with (
            paused_collector(),
            WorkerPool[list[FileTask], Results](lambda: FileReader(root, algorithm, store), workers) as pool,
        ):
            return _Scan(root, pool, keep_xattr, hard_links=hard_links).run()
    finally:
        os.close(root)


class _Level:
    """A directory on the way from the root to where the walk is."""

    __slots__ = ("directory", "fd", "identity", "path", "waiting")

    def __init__(self, path: bytes, fd: int, directory: Directory, status: os.stat_result) -> None:
        self.path = path
        self.fd = fd
        self.directory = directory
        self.identity = (status.st_dev, status.st_ino)
        self.waiting: list[bytes] = []
        """Subdirectories that are still to be visited."""


class _Scan:
    """One walk."""

    def __init__(
        self,
        root: int,
        pool: WorkerPool[list[FileTask], Results],
        keep_xattr: KeepXattr | None,
        *,
        hard_links: bool,
    ) -> None:
        self._root = root
        self._pool = pool
        self._keep_xattr = keep_xattr
        self._hard_links = hard_links
        self._levels: list[_Level] = []
        self._known: dict[tuple[int, int], tuple[Leaf, State]] = {}
        self._files: list[list[ExternalFile]] = []
        self._numbers: dict[tuple[int, int], int] = {}
        self._batch: list[FileTask] = []
        self._batch_bytes = 0

    def run(self) -> FileSystem:
        try:
            root = self._enter(b"", os.dup(self._root))
            while self._levels:
                level = self._levels[-1]
                if level.waiting:
                    self._descend(level)
                else:
                    self._leave()
        finally:
            for level in self._levels:
                if level.fd >= 0:
                    os.close(level.fd)
        self._submit()
        while self._pool.pending:
            self._take(self._pool.poll())
        return FileSystem(root)

    def _path(self, name: bytes) -> bytes:
        """Return the path of an entry of the current directory, from the root of the scan."""
        parent = self._levels[-1].path if self._levels else b""
        return b"/".join((parent, name)) if parent else name

    # Directories

    def _enter(self, name: bytes, fd: int) -> Directory:
        """Make the directory behind a descriptor the current one; the descriptor is taken over."""
        try:
            status = os.fstat(fd)
            path = self._path(name)
            directory = Directory(
                *_metadata(status), self._read_xattrs(f"/proc/self/fd/{fd}", path, follow=True)
            )
        except BaseException:
            os.close(fd)
            raise
        self._levels.append(_Level(path, fd, directory, status))
        if len(self._levels) > _OPEN_LEVELS:
            self._close(self._levels[-_OPEN_LEVELS - 1])
        self._read_entries(self._levels[-1])
        return directory

    def _descend(self, parent: _Level) -> None:
        name = parent.waiting.pop()
        try:
            fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent.fd)
        except (FileNotFoundError, NotADirectoryError) as error:
            raise ChangedError(self._path(name)) from error
        except OSError as error:
            raise self._locate(error, name) from error
        parent.directory.entries[name] = self._enter(name, fd)

    def _leave(self) -> None:
        level = self._levels.pop()
        try:
            if self._levels and self._levels[-1].fd < 0:
                self._reopen(self._levels[-1], level)
        finally:
            os.close(level.fd)

    @staticmethod
    def _close(level: _Level) -> None:
        if level.fd >= 0:
            os.close(level.fd)
            level.fd = -1

    def _reopen(self, level: _Level, child: _Level) -> None:
        fd = os.open("..", _DIRECTORY_FLAGS, dir_fd=child.fd)
        status = os.fstat(fd)
        level.fd = fd
        if (status.st_dev, status.st_ino) != level.identity:
            raise ChangedError(child.path)

    # Entries

    def _read_entries(self, level: _Level) -> None:
        entries = level.directory.entries
        with os.scandir(level.fd) as found:
            for entry in found:
                name = os.fsencode(entry.name)
                try:
                    # Not the type that the listing claims: some file systems do not know it.
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        level.waiting.append(name)
                    else:
                        entries[name] = self._read_leaf(level.fd, name, status)
                except FileNotFoundError as error:
                    raise ChangedError(self._path(name)) from error
                except OSError as error:
                    raise self._locate(error, name) from error

    def _locate(self, error: OSError, name: bytes) -> OSError:
        """Return the error with the path of the entry that it is about."""
        return OSError(error.errno, error.strerror, os.fsdecode(self._path(name)))

    def _read_leaf(self, dirfd: int, name: bytes, status: os.stat_result) -> Leaf:
        # Overlayfs links its whiteouts to each other to save inodes; they stay single ones.
        is_linked = status.st_nlink > 1 and not (stat.S_ISCHR(status.st_mode) and status.st_rdev == 0)
        if not is_linked or not self._hard_links:
            return self._make_leaf(dirfd, name, status)
        key = (status.st_dev, status.st_ino)
        known = self._known.get(key)
        if known is None:
            leaf = self._make_leaf(dirfd, name, status)
            self._known[key] = (leaf, file_state(status))
            return leaf
        leaf, state = known
        if state != file_state(status):
            raise ChangedError(self._path(name))
        return leaf

    def _make_leaf(self, dirfd: int, name: bytes, status: os.stat_result) -> Leaf:
        mode = status.st_mode
        if stat.S_ISREG(mode):
            if status.st_size <= INLINE_MAX_BYTES:
                return self._make_inline(dirfd, name, status)
            return self._make_external(dirfd, name, status)
        xattrs = self._read_entry_xattrs(dirfd, name)
        if stat.S_ISLNK(mode):
            return Symlink(os.readlink(name, dir_fd=dirfd), *_metadata(status), xattrs)
        if stat.S_ISCHR(mode):
            return CharDevice(status.st_rdev, *_metadata(status), xattrs)
        if stat.S_ISBLK(mode):
            return BlockDevice(status.st_rdev, *_metadata(status), xattrs)
        return (Fifo if stat.S_ISFIFO(mode) else Socket)(*_metadata(status), xattrs)

    def _make_inline(self, dirfd: int, name: bytes, status: os.stat_result) -> InlineFile:
        fd = os.open(name, _FILE_FLAGS, dir_fd=dirfd)
        try:
            path = self._path(name)
            state = file_state(status)
            check_state(fd, state, path)
            data = read_exactly(fd, status.st_size, path)
            xattrs = self._read_xattrs(f"/proc/self/fd/{fd}", name, follow=True)
            check_state(fd, state, path)
        finally:
            os.close(fd)
        return InlineFile(data, *_metadata(status), xattrs)

    def _make_external(self, dirfd: int, name: bytes, status: os.stat_result) -> ExternalFile:
        # What is read of it here cannot have changed: the worker finds the same change time.
        xattrs = self._read_entry_xattrs(dirfd, name)
        leaf = ExternalFile(_UNKNOWN_ID, status.st_size, *_metadata(status), xattrs)
        key = (status.st_dev, status.st_ino)
        number = self._numbers.get(key) if status.st_nlink > 1 else None
        if number is not None:  # names of one file that are to be files of their own
            self._files[number].append(leaf)
            return leaf
        number = len(self._files)
        self._files.append([leaf])
        if status.st_nlink > 1:
            self._numbers[key] = number
        directory = self._levels[-1].path
        self._batch.append(FileTask(number, directory, name, status.st_size, file_state(status)))
        self._batch_bytes += status.st_size
        if self._batch_bytes >= _BATCH_BYTES or len(self._batch) >= _BATCH_FILES:
            self._submit()
        return leaf

    def _submit(self) -> None:
        if self._batch:
            self._pool.submit(self._batch)
            self._batch = []
            self._batch_bytes = 0
        if self._pool.count:
            self._take(self._pool.poll(0))

    def _take(self, results: list[Results]) -> None:
        for result in results:
            for number, object_id in result:
                for leaf in self._files[number]:
                    leaf.object_id = object_id

    # Extended attributes

    def _read_entry_xattrs(self, dirfd: int, name: bytes) -> Mapping[bytes, bytes]:
        return self._read_xattrs(b"/proc/self/fd/%d/%s" % (dirfd, name), name, follow=False)

    def _read_xattrs(self, place: str | bytes, name: bytes, *, follow: bool) -> Mapping[bytes, bytes]:
        try:
            names = os.listxattr(place, follow_symlinks=follow)
            if not names:
                return NO_XATTRS
            kept = [key for key in names if self._keep_xattr is None or self._keep_xattr(os.fsencode(key))]
            xattrs = {os.fsencode(key): os.getxattr(place, key, follow_symlinks=follow) for key in kept}
        except OSError as error:
            if error.errno == errno.ENOTSUP:
                return NO_XATTRS
            if error.errno == errno.ENODATA:  # removed between the two calls
                raise ChangedError(self._path(name)) from error
            raise self._locate(error, name) from error
        return xattrs or NO_XATTRS


def _metadata(status: os.stat_result) -> tuple[int, int, int, int, int]:
    """Return mode, uid, gid, seconds and nanoseconds of a node."""
    seconds, nanoseconds = divmod(status.st_mtime_ns, 1_000_000_000)
    return status.st_mode & 0o7777, status.st_uid, status.st_gid, seconds, nanoseconds


def iter_nodes(filesystem: FileSystem) -> Iterator[Node]:
    """Yield every node once, in no particular order; hard-linked leaves once as well."""
    yield filesystem.root
    seen: set[int] = set()
    stack = [filesystem.root]
    while stack:
        for node in stack.pop().entries.values():
            if isinstance(node, Directory):
                stack.append(node)
            elif id(node) in seen:
                continue
            else:
                seen.add(id(node))
            yield node
