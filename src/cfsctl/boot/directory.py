"""The boot partition: files that appear complete, with the boot entry last.

    lock ─▶ space ─▶ files beside their places ─▶ sync ─▶ renames ─▶ sync ─▶ the entry ─▶ sync

If this is killed at any point, the next run removes what was left beside, and ends as if nothing had
happened. A boot loader sees an entry only after all files that it needs are on the disk. Links within the
directory are followed, but never out of it.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.linux.files import (
    TEMPORARY_FILE_PREFIX,
    AnonymousFile,
    fsync_directory,
    make_directory,
    open_regular,
    read_all,
)
from cfsctl.linux.sparse import write_all
from cfsctl.linux.syscalls import openat2, syncfs
from cfsctl.progress import Message, silent
from cfsctl.repository.locking.lock import LockedError
from cfsctl.repository.objects.space import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from types import TracebackType
    from typing import Self

    from cfsctl.progress import Reporter

    OpenContent = Callable[[], Iterable[bytes]]
    """Begins to read the content of a file, in pieces."""

FILE_MODE: Final = 0o644
DIRECTORY_MODE: Final = 0o755

_DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_SPARE_BLOCKS: Final = 16
"""Blocks that are kept free for directories and the tables of the file system."""

_PAUSE_S: Final = 0.05

_KEPT: Final = frozenset({"loader", "loader/entries", "loader/addons", "EFI", "EFI/Linux"})
"""Directories that boot loaders expect, which stay when they are empty."""


class NotADirectoryBootError(CfsError):
    """Something on the boot partition that is in the way of a directory or file."""

    exit_code = ExitCode.ERROR


class NewFile:
    """A file that is to be written.

    Attributes:
        path: Relative to the directory, checked by `cfsctl.boot.paths`.
        size: Its size in bytes.
        open: Begins to read its content.
    """

    __slots__ = ("open", "path", "size")

    def __init__(self, path: str, size: int, open_content: OpenContent) -> None:
        """Read nothing yet."""
        self.path = path
        self.size = size
        self.open = open_content


class BootDirectory:
    """A directory that a boot loader reads; locked while it is open, if it is to be changed."""

    def __init__(
        self,
        path: str,
        *,
        create: bool = True,
        is_locked: bool = True,
        lock_timeout_s: float | None = None,
        reporter: Reporter = silent,
    ) -> None:
        """Open and lock the directory.

        Args:
            path: The directory.
            create: Make it, and its parents, where they are missing.
            is_locked: Lock it; not needed for reading.
            lock_timeout_s: Longest time to wait for another program that writes there; None waits forever.
            reporter: Told when that has to be waited for.

        Raises:
            LockedError: The timeout expired.
            OSError: It cannot be opened.
        """
        self.path = path
        self._made: list[tuple[str, bool]] = []
        if create:
            os.makedirs(path, DIRECTORY_MODE, exist_ok=True)
        self._fd = os.open(path, _DIRECTORY_FLAGS)
        try:
            if is_locked:
                self._lock(lock_timeout_s, reporter)
        except BaseException:
            os.close(self._fd)
            raise

    def _lock(self, timeout_s: float | None, reporter: Reporter) -> None:
        if self._try_lock():
            return
        if timeout_s != 0:
            reporter(Message(f"{self.path}: waiting for another program that writes there"))
        if timeout_s is None:
            fcntl.flock(self._fd, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            time.sleep(_PAUSE_S)
            if self._try_lock():
                return
        raise LockedError(
            f"boot directory {self.path} is in use by another process",
            hint="wait for it to end, or allow more time with --lock-timeout",
        )

    def _try_lock(self) -> bool:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno not in {errno.EWOULDBLOCK, errno.EACCES}:
                raise
            return False
        return True

    def close(self) -> None:
        """Unlock and close the directory."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Self:
        """Return the directory itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close it."""
        self.close()

    # Reading

    def read(self, path: str, limit_bytes: int) -> bytes | None:
        """Return the content of a regular file, or None if it is missing.

        Raises:
            OSError: It is no regular file, or larger than the limit.
        """
        try:
            with self._open_parent(path) as (directory, name):
                fd = open_regular(directory, name)
        except FileNotFoundError:
            return None
        try:
            return read_all(fd, limit_bytes)
        finally:
            os.close(fd)

    def list_names(self, path: str) -> list[tuple[str, bool]]:
        """Return the sorted names in a directory and whether each is one; none if it is missing."""
        try:
            with self._open_directory(path) as directory, os.scandir(directory) as entries:
                return sorted((entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries)
        except (FileNotFoundError, NotADirectoryError):
            return []

    # Writing

    def find_changed(self, files: Iterable[NewFile]) -> list[NewFile]:
        """Return the files that are not there yet with the same content."""
        return [file for file in files if not self._is_same(file)]

    def _is_same(self, file: NewFile) -> bool:
        try:
            with self._open_parent(file.path) as (directory, name):
                fd = open_regular(directory, name)
        except (FileNotFoundError, NotADirectoryError):
            return False
        except OSError as error:
            if error.errno == errno.ELOOP:  # a link, which the file takes the place of
                return False
            raise
        with open(fd, "rb") as stored:
            if os.fstat(fd).st_size != file.size:
                return False
            return all(stored.read(len(piece)) == piece for piece in file.open())

    def check_space(self, files: Sequence[NewFile]) -> None:
        """Check that there is room for files beside what they replace.

        Raises:
            NoSpaceError: There is not.
        """
        found = os.fstatvfs(self._fd)
        if not found.f_blocks:
            return  # a file system that does not count
        block = found.f_frsize or 4096
        needed = sum(-(-file.size // block) for file in files) + (_SPARE_BLOCKS if files else 0)
        if needed > found.f_bavail:
            raise NoSpaceError(
                errno.ENOSPC,
                f"boot directory {self.path}: {needed * block} bytes are needed,"
                f" {found.f_bavail * block} are free; nothing was written",
                hint="remove boot entries that are not needed (cfsctl boot list, cfsctl boot remove)",
            )

    def write(self, files: Sequence[NewFile]) -> None:
        """Write files, the last of them when the others are on the disk; all or none of the new ones.

        Raises:
            OSError: Something cannot be written; files that were not there before are gone again.
        """
        self._made = []
        try:
            with ExitStack() as opened:
                self._remove_leftovers(files)
                written = [(file, self._write_beside(file, opened)) for file in files]
                syncfs(self._fd)
                for file, temporary in written[:-1]:
                    self._put(file.path, temporary)
                syncfs(self._fd)
                for file, temporary in written[-1:]:
                    self._put(file.path, temporary)
                syncfs(self._fd)
        except BaseException:
            self._undo()
            raise

    def _write_beside(self, file: NewFile, opened: ExitStack) -> AnonymousFile:
        directory, _ = opened.enter_context(self._open_parent(file.path, create=True))
        temporary = opened.enter_context(AnonymousFile(directory, FILE_MODE))
        size = 0
        for piece in file.open():
            write_all(temporary.fd, piece)
            size += len(piece)
        if size != file.size:
            raise OSError(errno.EIO, f"expected {file.size} bytes, found {size}", file.path)
        os.fsync(temporary.fd)
        return temporary

    def _remove_leftovers(self, files: Iterable[NewFile]) -> None:
        """Remove what a run that was killed has left; the lock says that nobody else is writing."""
        for parent in {file.path.rpartition("/")[0] for file in files}:
            names = [name for name, _ in self.list_names(parent) if name.startswith(TEMPORARY_FILE_PREFIX)]
            for name in names:
                with contextlib.suppress(OSError), self._open_directory(parent) as directory:
                    os.unlink(name, dir_fd=directory)

    def _put(self, path: str, temporary: AnonymousFile) -> None:
        with self._open_parent(path) as (directory, name), self._named(path):
            is_new = not _exists(directory, name)
            temporary.replace(directory, name)
            if is_new:
                self._made.append((path, False))
            # On FAT, the new name stands for an empty file until the file itself is written again, and for
            # what it stood for before even if that is free by now. So the file comes before the directory.
            os.fsync(temporary.fd)
            fsync_directory(directory)

    def _undo(self) -> None:
        for path, is_directory in reversed(self._made):
            with contextlib.suppress(OSError), self._open_parent(path) as (directory, name):
                if is_directory:
                    os.rmdir(name, dir_fd=directory)
                else:
                    os.unlink(name, dir_fd=directory)
        self._made = []

    def remove(self, path: str) -> bool:
        """Remove a file, and directories that are empty then; return whether it was there.

        Raises:
            OSError: It cannot be removed.
        """
        try:
            with self._open_parent(path) as (directory, name):
                os.unlink(name, dir_fd=directory)
                fsync_directory(directory)
        except FileNotFoundError:
            return False
        self._remove_empty(path.rpartition("/")[0])
        return True

    def _remove_empty(self, path: str) -> None:
        while path and path not in _KEPT:
            try:
                with self._open_parent(path) as (directory, name):
                    os.rmdir(name, dir_fd=directory)
            except OSError:
                return
            path = path.rpartition("/")[0]

    # Directories

    @contextlib.contextmanager
    def _named(self, path: str) -> Iterator[None]:
        """Have errors name the path from the boot directory on, and not from what is open."""
        try:
            yield
        except OSError as error:
            raise OSError(error.errno, error.strerror, f"{self.path}/{path}") from error

    @contextlib.contextmanager
    def _open_parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        parent, _, name = path.rpartition("/")
        with self._open_directory(parent, create=create) as directory:
            yield directory, name

    @contextlib.contextmanager
    def _open_directory(self, path: str, *, create: bool = False) -> Iterator[int]:
        if create:
            self._make_directories(path)
        try:
            fd = openat2(self._fd, path or ".", _DIRECTORY_FLAGS)
        except OSError as error:
            if error.errno not in {errno.EXDEV, errno.ELOOP}:
                raise
            raise NotADirectoryBootError(
                f"{self.path}/{path}: a symbolic link leads out of {self.path}, or has no end",
                hint="remove the link, or name the directory that it leads to with --bootdir",
            ) from error
        try:
            yield fd
        finally:
            os.close(fd)

    def _make_directories(self, path: str) -> None:
        parts = [part for part in path.split("/") if part]
        for count in range(1, len(parts) + 1):
            so_far = "/".join(parts[:count])
            try:
                with self._open_directory(so_far):
                    pass
            except NotADirectoryError as error:
                raise NotADirectoryBootError(
                    f"{self.path}/{so_far}: expected a directory, found something else"
                ) from error
            except FileNotFoundError:
                with self._open_parent(so_far) as (directory, name), self._named(so_far):
                    make_directory(name, DIRECTORY_MODE, directory)
                    fsync_directory(directory)
                self._made.append((so_far, True))


def _exists(directory: int, name: str) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    if stat.S_ISDIR(status.st_mode):
        raise OSError(errno.EISDIR, os.strerror(errno.EISDIR), name)
    return True
