"""System calls without a wrapper in `os`.

`ctypes` is loaded at the first call and not at import, since most commands need none of these.
Numbers are those of all architectures that got the call after Linux 5.1; older calls go through the
C library, which knows the architecture's own number.
"""

from __future__ import annotations

import errno
import functools
import os
import stat
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from ctypes import CDLL

AT_FDCWD = -100
AT_EMPTY_PATH = 0x1000

CLONE_NEWNS = 0x00020000

RENAME_NOREPLACE = 1
RENAME_EXCHANGE = 2

RESOLVE_NO_XDEV = 0x01
RESOLVE_NO_MAGICLINKS = 0x02
RESOLVE_NO_SYMLINKS = 0x04
RESOLVE_BENEATH = 0x08
RESOLVE_IN_ROOT = 0x10
RESOLVE_CACHED = 0x20

_NR_OPENAT2 = 437

_OPEN_HOW = struct.Struct("=QQQ")
"""struct open_how: flags, mode, resolve; native endianness."""

_AT_NO_AUTOMOUNT = 0x800
_AT_STATX_DONT_SYNC = 0x4000
_STATX_BASIC = 0x7FF
_STATX_ATTR_MOUNT_ROOT = 0x2000
_STATX_BYTES = 256
_STATX = struct.Struct("=8xQ12xH2xQQ64xqI12xII")
"""struct statx: attributes, mode, ino, size, mtime and device; native endianness."""

_MAX_SYMLINKS = 40
"""Links followed in one path before ELOOP; the kernel's own limit (MAXSYMLINKS)."""

_MAX_RACE_RETRIES = 8
"""Attempts of openat2 after EAGAIN, which it gives when a rename raced with a ``..`` in the path."""


@functools.cache
def libc() -> CDLL:
    """Return the C library, set up to keep errno per call."""
    import ctypes  # costs several ms, and most commands never come here

    return ctypes.CDLL(None, use_errno=True)


def check(result: int, path: str | bytes | None = None) -> int:
    """Return `result` unless it is -1, which becomes an `OSError` with the call's errno and `path`."""
    if result == -1:
        import ctypes  # loaded already: only calls through libc() come here

        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), *(() if path is None else (path,)))
    return result


def syscall(number: int, *arguments: int | bytes | bytearray | None, path: str | bytes | None = None) -> int:
    """Make a system call by number; every argument is passed as a word.

    Args:
        number: The call's number on this architecture.
        *arguments: Integers, C strings and buffers as bytes, or None for a null pointer.
        path: What the error should name.

    Raises:
        OSError: The kernel refused.
    """
    import ctypes  # costs several ms, and most commands never come here

    words = [ctypes.c_long(word) if isinstance(word, int) else word for word in arguments]
    return check(libc().syscall(ctypes.c_long(number), *words), path)


def syncfs(fd: int) -> None:
    """Write everything of the file system that holds `fd` to its device."""
    check(libc().syncfs(fd))


def file_system_type(fd: int) -> int:
    """Return the magic number of the file system that holds `fd` (f_type of statfs(2), linux/magic.h)."""
    import ctypes  # costs several ms, and most commands never come here

    buffer = ctypes.create_string_buffer(256)  # struct statfs has at most 120 bytes
    check(libc().fstatfs(fd, buffer))
    # A word, but on s390x, where it is an int; magic numbers have 32 bits.
    word = "I" if os.uname().machine.startswith("s390") else "L"
    number: int = struct.unpack_from(word, buffer)[0]
    return number & 0xFFFFFFFF


def setns(fd: int, kind: int) -> None:
    """Move this process, which must have one thread only, into a namespace, for example `CLONE_NEWNS`.

    Its working directory and root are those of a mount namespace afterwards.
    """
    check(libc().setns(fd, kind))


def unshare(kinds: int) -> None:
    """Leave namespaces for new ones; os.unshare comes with Python 3.12.

    Raises:
        OSError: EPERM, or EINVAL for a user namespace if the process has other threads.
    """
    check(libc().unshare(kinds))


def renameat2(src_dirfd: int, src: str | bytes, dst_dirfd: int, dst: str | bytes, flags: int) -> None:
    """Rename with flags, for example `RENAME_NOREPLACE`.

    Raises:
        OSError: EINVAL or ENOSYS where the file system or the C library cannot; others as rename(2).
    """
    function = getattr(libc(), "renameat2", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), dst)
    check(function(src_dirfd, os.fsencode(src), dst_dirfd, os.fsencode(dst), flags), dst)


def link_fd(fd: int, dirfd: int, name: str | bytes) -> None:
    """Give a name to the open file `fd`, which may have none so far.

    Raises:
        FileExistsError: The name is taken.
        OSError: Another refusal; EXDEV for another file system.
    """
    try:
        # With dst_dir_fd CPython calls linkat with AT_SYMLINK_FOLLOW, which the magic link needs.
        os.link(f"/proc/self/fd/{fd}", name, dst_dir_fd=dirfd, follow_symlinks=True)
    except FileNotFoundError:
        if os.path.lexists(f"/proc/self/fd/{fd}"):
            raise
        # No /proc here. The empty-path form asks for CAP_DAC_READ_SEARCH before Linux 6.10.
        check(libc().linkat(fd, b"", dirfd, os.fsencode(name), AT_EMPTY_PATH), name)


def openat2(
    dirfd: int,
    path: str | bytes,
    flags: int,
    mode: int = 0,
    resolve: int = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS,
) -> int:
    """Open `path` without ever leaving the directory `dirfd`.

    If the kernel lacks the call (before 5.6, or a filter hides it) the path is walked component by
    component, with the same answers for `RESOLVE_BENEATH` and `RESOLVE_NO_SYMLINKS`.

    Args:
        dirfd: Directory, borrowed.
        path: Relative path; symbolic links in it are followed as long as they stay beneath.
        flags: As for `os.open`; O_CLOEXEC is added.
        mode: Permission bits of a file that is created.
        resolve: ``RESOLVE_`` bits.

    Returns:
        A descriptor that the caller owns.

    Raises:
        OSError: EXDEV when the path would leave the directory; ELOOP for a refused link or too many.
    """
    raw = os.fsencode(path)
    if b"\0" in raw:
        raise ValueError("embedded null byte")
    how = _OPEN_HOW.pack(flags | os.O_CLOEXEC, mode, resolve)
    for attempt in range(_MAX_RACE_RETRIES):
        try:
            return syscall(_NR_OPENAT2, dirfd, raw, how, len(how), path=path)
        except OSError as error:
            # Container filters that predate the call answer EPERM, which the call itself does not.
            if error.errno in {errno.ENOSYS, errno.EPERM}:
                break
            if error.errno != errno.EAGAIN or attempt == _MAX_RACE_RETRIES - 1:
                raise
    return open_beneath(dirfd, raw, flags, mode, follow=not resolve & RESOLVE_NO_SYMLINKS)


def open_cached(dirfd: int, path: str | bytes, flags: int = 0, *, resolve: int = RESOLVE_IN_ROOT) -> int:
    """Open a place with O_PATH, without asking any file system.

    For paths that others chose: what leads there may belong to a file system that never answers.
    A mount point can always be reached this way, since the kernel keeps the path to it.

    Args:
        dirfd: Directory, borrowed.
        path: The path; links in it are followed.
        flags: Further flags for open(2).
        resolve: ``RESOLVE_`` bits; by default `dirfd` stands for the root directory.

    Returns:
        A descriptor that the caller owns.

    Raises:
        OSError: EAGAIN where a file system would have to be asked; ENOSYS, EPERM or EINVAL where the kernel
            (before 5.12, or a filter) cannot do this.
    """
    raw = os.fsencode(path)
    how = _OPEN_HOW.pack(flags | os.O_PATH | os.O_CLOEXEC, 0, resolve | RESOLVE_CACHED)
    for attempt in range(_MAX_RACE_RETRIES):
        try:
            return syscall(_NR_OPENAT2, dirfd, raw, how, len(how), path=path)
        except OSError as error:
            # Also when something is renamed or mounted at the same moment.
            if error.errno != errno.EAGAIN or attempt == _MAX_RACE_RETRIES - 1:
                raise
    raise AssertionError("unreachable")


class CachedStatus(NamedTuple):
    """What the kernel knows about a file.

    Attributes:
        mode: Type and permission bits.
        size: Its size in bytes.
        mtime_ns: When it was changed, in nanoseconds since 1970.
        inode: Its number.
        device: Device number of its file system.
        is_mount_root: Whether it is the root directory of a mount; false on Linux before 5.8.
    """

    mode: int
    size: int
    mtime_ns: int
    inode: int
    device: int
    is_mount_root: bool


def stat_cached(fd: int) -> CachedStatus:
    """Return the status of an open file as statx(2) with AT_STATX_DONT_SYNC gives it.

    FUSE, NFS and other file systems that live elsewhere are not asked, so this never waits for them.
    """
    import ctypes  # costs several ms, and most commands never come here

    function = getattr(libc(), "statx", None)
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    buffer = ctypes.create_string_buffer(_STATX_BYTES)
    check(function(fd, b"", AT_EMPTY_PATH | _AT_NO_AUTOMOUNT | _AT_STATX_DONT_SYNC, _STATX_BASIC, buffer))
    attributes, mode, inode, size, seconds, nanoseconds, major, minor = _STATX.unpack_from(buffer)
    return CachedStatus(
        mode,
        size,
        seconds * 10**9 + nanoseconds,
        inode,
        os.makedev(major, minor),
        bool(attributes & _STATX_ATTR_MOUNT_ROOT),
    )


def open_beneath(dirfd: int, path: bytes, flags: int, mode: int = 0, *, follow: bool = True) -> int:
    """Emulate `openat2` with RESOLVE_BENEATH by openat(2).

    Every component is opened without following links, and links are expanded here, so a component
    that is swapped in the middle leads to an error and never out of the directory.

    Raises:
        OSError: As `openat2`.
    """
    walk = _Walk(dirfd, path, follow=follow)
    try:
        return walk.open(flags | os.O_CLOEXEC, mode)
    finally:
        walk.close()


class _Walk:
    """The state of one component-wise open: the directories above, and the components to come."""

    def __init__(self, dirfd: int, path: bytes, *, follow: bool) -> None:
        self._path = path
        self._follow = follow
        self._links = 0
        self._opened: list[int] = []
        self._root = dirfd
        self._must_be_directory = False
        self._todo: list[bytes] = []
        self._push(path)

    def _push(self, path: bytes) -> None:
        """Insert the components of a path before the remaining ones."""
        if path.startswith(b"/"):
            raise self._error(errno.EXDEV)
        if not path:
            raise self._error(errno.ENOENT)
        if not self._todo and (path.endswith((b"/", b"/.", b"/..")) or path in {b".", b".."}):
            self._must_be_directory = True
        self._todo += [part for part in reversed(path.split(b"/")) if part not in {b"", b"."}]

    def _error(self, number: int) -> OSError:
        return OSError(number, os.strerror(number), self._path)

    @property
    def _here(self) -> int:
        return self._opened[-1] if self._opened else self._root

    def close(self) -> None:
        for fd in self._opened:
            os.close(fd)

    def open(self, flags: int, mode: int) -> int:
        while self._todo:
            part = self._todo.pop()
            if part == b"..":
                self._ascend()
            elif self._todo or self._is_followed(part, flags):
                self._enter(part)
            else:
                extra = os.O_DIRECTORY if self._must_be_directory and not flags & os.O_CREAT else 0
                return os.open(part, flags | extra | os.O_NOFOLLOW, mode, dir_fd=self._here)
        return os.open(b".", flags, mode, dir_fd=self._here)

    def _ascend(self) -> None:
        if not self._opened:
            raise self._error(errno.EXDEV)
        os.close(self._opened.pop())

    def _is_followed(self, part: bytes, flags: int) -> bool:
        """Return whether the last component is a link that has to be expanded."""
        if flags & (os.O_NOFOLLOW | os.O_EXCL) and not self._must_be_directory:
            return False
        try:
            return stat.S_ISLNK(os.stat(part, dir_fd=self._here, follow_symlinks=False).st_mode)
        except FileNotFoundError:
            return False

    def _enter(self, part: bytes) -> None:
        try:
            target = os.readlink(part, dir_fd=self._here)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            flags = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
            self._opened.append(os.open(part, flags, dir_fd=self._here))
            return
        self._links += 1
        if not self._follow or self._links > _MAX_SYMLINKS:
            raise self._error(errno.ELOOP)
        self._push(target)
