"""Building blocks for files that appear complete or not at all.

An `AnonymousFile` has no name while it is written, so it leaves nothing behind if the process dies. On file
systems without O_TMPFILE, it has a temporary name that is removed again. Nothing is synced here: durability
comes from the caller's barrier.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING

from cfsctl.linux.sparse import write_all, write_sparse
from cfsctl.linux.syscalls import AT_FDCWD, RENAME_NOREPLACE, link_fd, renameat2

__all__ = ["AnonymousFile", "FileFactory", "write_all"]

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

TEMPORARY_FILE_PREFIX = ".tmp-object-"
TEMPORARY_LINK_PREFIX = ".symlink-"

_NAME_ALPHABET = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
_NAME_RANDOM_CHARACTERS = 12
_MAX_NAME_ATTEMPTS = 16
"""Names tried before giving up; one clash of 12 random characters is already as good as impossible."""

_NO_TMPFILE = {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}
"""What file systems, old kernels and some FUSE servers answer to O_TMPFILE if they lack it."""

_UNNAMED_FLAGS = os.O_RDWR | os.O_TMPFILE | os.O_CLOEXEC

_READ_CHUNK_BYTES = 1 << 20


def random_name(prefix: str) -> str:
    """Return `prefix` and 12 random letters and digits."""
    random = os.urandom(_NAME_RANDOM_CHARACTERS)
    return prefix + bytes(_NAME_ALPHABET[byte % len(_NAME_ALPHABET)] for byte in random).decode("ascii")


def _make_named(prefix: str, make: Callable[[str], int | None]) -> tuple[str, int | None]:
    """Call `make` with random names until one is free; return that name and what `make` returned."""
    for attempt in range(_MAX_NAME_ATTEMPTS):
        name = random_name(prefix)
        try:
            return name, make(name)
        except FileExistsError:
            if attempt == _MAX_NAME_ATTEMPTS - 1:
                raise
    raise AssertionError("unreachable")


def read_all(fd: int, limit_bytes: int) -> bytes:
    """Return everything from the descriptor's position to the end of the file.

    Raises:
        OSError: EFBIG when there is more than `limit_bytes`; no more than that is held.
    """
    chunks: list[bytes] = []
    left = limit_bytes + 1
    # A regular file is read at once: joining pieces would hold everything twice.
    step = max(os.fstat(fd).st_size + 1, _READ_CHUNK_BYTES)
    while left > 0:
        chunk = os.read(fd, min(left, step))
        if not chunk:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)
        chunks.append(chunk)
        left -= len(chunk)
    raise OSError(errno.EFBIG, f"more than {limit_bytes} bytes", _describe(fd))


def _describe(fd: int) -> str:
    """Return the path of an open file for a message, or its descriptor number if it has none."""
    try:
        return os.readlink(f"/proc/self/fd/{fd}")
    except OSError:
        return f"descriptor {fd}"


_TYPE_NAMES = {
    stat.S_IFDIR: "a directory",
    stat.S_IFLNK: "a symbolic link",
    stat.S_IFIFO: "a fifo",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a character device",
    stat.S_IFBLK: "a block device",
}


_LISTED_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
"""O_NONBLOCK: opening a fifo for reading would wait for a writer forever."""


def open_regular(dirfd: int, name: str | bytes) -> int:
    """Open a regular file for reading; never follows a link in the last place, never blocks.

    Args:
        dirfd: Directory that a relative name starts from, borrowed.
        name: The file's name or path.

    Returns:
        A descriptor that the caller owns.

    Raises:
        OSError: As open(2); ELOOP for a symbolic link, EINVAL (EISDIR) for anything else that is no
            regular file.
    """
    # Opening a device can have effects: arm a watchdog, rewind a tape, wait for a writer or a server. So the
    # file type is checked first, through an O_PATH descriptor, which refers to the same file if the name is
    # replaced.
    handle = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        return open_handle(handle, name, dirfd)
    finally:
        os.close(handle)


def open_handle(handle: int, name: str | bytes, dirfd: int = AT_FDCWD) -> int:
    """Open what an O_PATH descriptor leads to for reading, if it is a regular file.

    Args:
        handle: The descriptor, borrowed.
        name: Its name, for messages, and to open it by where there is no ``/proc``.
        dirfd: Directory that a relative name starts from, borrowed.

    Returns:
        A descriptor that the caller owns.

    Raises:
        OSError: As `open_regular`.
    """
    status = os.fstat(handle)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        try:
            return os.open(f"/proc/self/fd/{handle}", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
        except FileNotFoundError:
            return _open_same(dirfd, name, status)
        except OSError as error:
            raise OSError(error.errno, error.strerror, name) from None
    if kind == stat.S_IFLNK:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), name)
    number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise OSError(number, f"expected a regular file, found {_TYPE_NAMES.get(kind, 'another type')}", name)


def open_listed(dirfd: int, name: str | bytes) -> int:
    """Open a regular file as `open_regular` does, if its type has just been checked by name.

    This runs once per object. What could have taken its place in between is a link, which is not followed, or
    a FIFO, which is opened without waiting; only root can create devices.

    Raises:
        OSError: As `open_regular`.
    """
    return open_listed_status(dirfd, name)[0]


def open_listed_status(dirfd: int, name: str | bytes) -> tuple[int, os.stat_result]:
    """Open a regular file as `open_listed` does; return its status as well.

    Raises:
        OSError: As `open_regular`.
    """
    fd = os.open(name, _LISTED_FLAGS, dir_fd=dirfd)
    status = os.fstat(fd)
    kind = stat.S_IFMT(status.st_mode)
    if kind == stat.S_IFREG:
        return fd, status
    os.close(fd)
    number = errno.EISDIR if kind == stat.S_IFDIR else errno.EINVAL
    raise OSError(number, f"expected a regular file, found {_TYPE_NAMES.get(kind, 'another type')}", name)


def _open_same(dirfd: int, name: str | bytes, status: os.stat_result) -> int:
    """Open a file by its name, if that still leads to the file with this status."""
    fd = os.open(name, _LISTED_FLAGS, dir_fd=dirfd)
    if os.path.samestat(os.fstat(fd), status):
        return fd
    os.close(fd)
    raise OSError(errno.EINVAL, "was replaced while it was opened", name)


def replace_symlink(dirfd: int, name: str, text: str | bytes, *, temporary_dirfd: int | None = None) -> None:
    """Make `name` a symbolic link to `text`, atomically replacing an existing link or file.

    Args:
        dirfd: Directory, borrowed.
        name: Path relative to `dirfd`; its directory must exist.
        text: The link's content, not interpreted here.
        temporary_dirfd: Directory of the same file system for the temporary link, borrowed; `dirfd`
            if None.

    Raises:
        OSError: Nothing has changed then, and the temporary link is gone.
    """
    where = dirfd if temporary_dirfd is None else temporary_dirfd
    temporary, _ = _make_named(TEMPORARY_LINK_PREFIX, lambda new: os.symlink(text, new, dir_fd=where))
    try:
        _rename_to(name, dirfd, temporary, where)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=where)
        raise


def _rename_to(name: str, dirfd: int, temporary: str, temporary_dirfd: int) -> None:
    """Give a temporary file or link its name; an error has that name alone."""
    try:
        os.rename(temporary, name, src_dir_fd=temporary_dirfd, dst_dir_fd=dirfd)
    except OSError as error:
        error.filename, error.filename2 = name, None
        raise


def fsync_directory(dirfd: int) -> None:
    """Make the entries of a directory durable; `dirfd` may have been opened with O_PATH."""
    fd = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


class AnonymousFile:
    """A new file without a name, which gets one when it is complete.

    A context manager: leaving it closes the descriptor and, if the file was not linked, makes the
    file go away.

    Attributes:
        fd: Descriptor for reading and writing, owned by this object.
        is_plain: Whether O_TMPFILE alone gave the file as it was wanted.
    """

    __slots__ = ("_dirfd", "_name", "fd", "is_plain")

    def __init__(self, dirfd: int, mode: int = 0o644, *, named: bool = False) -> None:
        """Create the file in a directory of the file system it is to live on.

        Args:
            dirfd: Directory, borrowed; must stay open while this object is in use.
            mode: Exact permission bits, regardless of the umask.
            named: Do not try O_TMPFILE.

        Raises:
            OSError: As open(2).
        """
        self._dirfd = dirfd
        self._name: str | None = None
        fd = None if named else _open_unnamed(dirfd, mode)
        if fd is None:
            self._name, fd = _make_named(TEMPORARY_FILE_PREFIX, lambda name: _create(dirfd, name, mode))
            assert fd is not None
        self.fd = fd
        self.is_plain = self._name is None
        if os.fstat(fd).st_mode & 0o7777 != mode:
            os.fchmod(fd, mode)
            self.is_plain = False

    @property
    def is_named(self) -> bool:
        """Whether the file has a temporary name (on file systems without O_TMPFILE)."""
        return self._name is not None

    def make_read_only(self) -> None:
        """Replace the descriptor by one for reading, so that nothing has the file open for writing."""
        flags = os.O_RDONLY | os.O_CLOEXEC
        fd = -1
        if self._name is None:
            try:
                fd = os.open(f"/proc/self/fd/{self.fd}", flags)
            except FileNotFoundError:  # no /proc: it can only be opened again by a name
                new, _ = _make_named(TEMPORARY_FILE_PREFIX, lambda new: link_fd(self.fd, self._dirfd, new))
                self._name = new
        if fd < 0:
            assert self._name is not None
            fd = os.open(self._name, flags | os.O_NOFOLLOW, dir_fd=self._dirfd)
        os.close(self.fd)
        self.fd = fd

    def link(self, dirfd: int, name: str) -> None:
        """Give the file its name; the descriptor stays open.

        Raises:
            FileExistsError: The name is taken; nothing has changed.
            OSError: As linkat(2).
        """
        if self._name is None:
            link_fd(self.fd, dirfd, name)
            return
        try:
            renameat2(self._dirfd, self._name, dirfd, name, RENAME_NOREPLACE)
        except OSError as error:
            if error.errno not in {errno.EINVAL, errno.ENOSYS}:
                raise
            os.link(self._name, name, src_dir_fd=self._dirfd, dst_dir_fd=dirfd, follow_symlinks=False)
            os.unlink(self._name, dir_fd=self._dirfd)
        self._name = None

    def replace(self, dirfd: int, name: str) -> None:
        """Give the file its name, in place of a file that may have it, atomically.

        Raises:
            OSError: As rename(2); nothing has changed then.
        """
        if self._name is None:
            self._name, _ = _make_named(TEMPORARY_FILE_PREFIX, lambda new: link_fd(self.fd, self._dirfd, new))
        _rename_to(name, dirfd, self._name, self._dirfd)
        self._name = None

    def close(self) -> None:
        """Close the descriptor and remove a file that got no name; may be called again."""
        if self._name is not None:
            with contextlib.suppress(OSError):
                os.unlink(self._name, dir_fd=self._dirfd)
            self._name = None
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        """Return the file itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close and clean up."""
        self.close()


def read_umask() -> int:
    """Return the process' file mode mask; other threads may see another one for a moment."""
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def make_directory(name: str, mode: int, dirfd: int | None = None) -> None:
    """Make a directory with exactly these permission bits, regardless of the umask.

    Args:
        name: Its path.
        mode: Its permission bits; it inherits others, the set-group-ID bit above all, as mkdir(2) has it.
        dirfd: Directory that the path is relative to, borrowed.

    Raises:
        FileExistsError: The name is taken; nothing has changed.
        OSError: As mkdir(2) and chmod(2).
    """
    os.mkdir(name, mode, dir_fd=dirfd)
    found = os.stat(name, dir_fd=dirfd, follow_symlinks=False).st_mode
    if found & 0o777 == mode:
        return
    # By a descriptor: chmod(2) on the name would follow a link that has taken its place.
    fd = os.open(name, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dirfd)
    try:
        _change_mode(fd, mode | found & 0o7000)
    finally:
        os.close(fd)


def _change_mode(fd: int, mode: int) -> None:
    """Change the mode of a directory that may be open as a path only and have no permissions at all."""
    try:
        os.chmod(f"/proc/self/fd/{fd}", mode)
    except FileNotFoundError:  # no /proc
        inner = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
        try:
            os.fchmod(inner, mode)
        finally:
            os.close(inner)


class FileFactory:
    """Makes files in one file system; what the first one showed spares looking at each of the others.

    The umask must not change while it is in use.
    """

    __slots__ = ("_dirfd", "_is_plain", "_mode")

    def __init__(self, dirfd: int, mode: int) -> None:
        """Make nothing yet.

        Args:
            dirfd: Directory that files without a name are made in, borrowed; must stay open.
            mode: Exact permission bits, regardless of the umask.
        """
        self._dirfd = dirfd
        self._mode = mode
        self._is_plain = False

    def begin(self) -> AnonymousFile:
        """Return a new, empty file.

        Raises:
            OSError: As open(2).
        """
        file = AnonymousFile(self._dirfd, self._mode)
        self._is_plain = file.is_plain
        return file

    def create(self, data: bytes | bytearray | memoryview, dirfd: int, name: str) -> None:
        """Make a file with this content and name, whole or not at all.

        Args:
            data: The content.
            dirfd: The directory it is to be in, borrowed.
            name: Its name there.

        Raises:
            FileExistsError: The name is taken; nothing has changed.
            OSError: As open(2), write(2) and linkat(2); nothing has changed then.
        """
        if not self._is_plain:
            with self.begin() as file:
                write_sparse(file.fd, data)
                file.link(dirfd, name)
            return
        # This runs once per object of a pull or a scan: the same without an object of its own.
        fd = os.open(".", _UNNAMED_FLAGS, self._mode, dir_fd=self._dirfd)
        try:
            write_sparse(fd, data)
            link_fd(fd, dirfd, name)
        finally:
            os.close(fd)


def _open_unnamed(dirfd: int, mode: int) -> int | None:
    """Return a descriptor of a file without a name, or None if the file system cannot."""
    try:
        return os.open(".", _UNNAMED_FLAGS, mode, dir_fd=dirfd)
    except OSError as error:
        if error.errno not in _NO_TMPFILE:
            raise
        return None


def _create(dirfd: int, name: str, mode: int) -> int:
    return os.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode, dir_fd=dirfd)
