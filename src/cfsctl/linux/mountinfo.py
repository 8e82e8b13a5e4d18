"""List the mounts in all mount namespaces that this process may inspect.

Format: ``/proc/PID/mountinfo``, see proc_pid_mountinfo(5). It shows the mounts that are reachable from the
process's root directory, so a namespace with processes in a chroot is read once for each root. Every thread
may have a namespace and a root directory of its own, and outlive the first one. A mount
that was detached while in use (``umount --lazy``), or was never attached, is in no list. Such mounts are
found through the directories that processes have open.

The processes may belong to other users, and their links in ``/proc`` may lead to file systems that never
answer (FUSE, NFS). Accessing these could block forever. Therefore no link is followed by stat(2), and files
are only opened with O_PATH.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.errors import describe

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_SEPARATOR: Final = b" - "
_MIN_FIELDS: Final = 6
_MAX_LINE_BYTES: Final = 1 << 20
"""A line holds options of at most a page and paths of at most 4096 bytes, escaped."""

_CAP_SYS_PTRACE: Final = 19
_INITIAL_PID_NAMESPACE: Final = f"pid:[{0xEFFFFFFC}]"
"""PROC_PID_INIT_INO of linux/proc_ns.h."""


class Mount(NamedTuple):
    """One mount, as one process sees it.

    Attributes:
        process: The process, by its number, a thread as ``PID/task/TID``, or ``self``.
        mount_id: Number of the mount, unique among those that exist.
        device: Device number of the file system, the same for all mounts of it.
        root: What of the file system is mounted.
        mountpoint: Where it is, below the root directory of the process.
        kind: Type of the file system.
        source: What it was made from.
        options: Options of the file system, not split and not unescaped.
    """

    process: str
    mount_id: int
    device: int
    root: bytes
    mountpoint: bytes
    kind: bytes
    source: bytes
    options: bytes


def unescape(text: bytes) -> bytes:
    r"""Return a field with ``\ooo`` replaced by the bytes that stand for it."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text) if b"\\" in text else text


def parse_mount(line: bytes, process: str) -> Mount | None:
    """Return the mount that a line of mountinfo describes, or None for a line of another form."""
    head, separator, tail = line.rstrip(b"\n").partition(_SEPARATOR)
    fields, rest = head.split(b" "), tail.split(b" ")
    if not separator or len(fields) < _MIN_FIELDS or len(rest) < 2:
        return None
    major, colon, minor = fields[2].partition(b":")
    if not colon or not (fields[0].isdigit() and major.isdigit() and minor.isdigit()):
        return None
    return Mount(
        process,
        int(fields[0]),
        os.makedev(int(major), int(minor)),
        unescape(fields[3]),
        unescape(fields[4]),
        rest[0],
        unescape(rest[1]),
        b" ".join(rest[2:]),
    )


class MountTable(NamedTuple):
    """Everything that is mounted, as far as this process may look.

    Attributes:
        mounts: The mounts, those of this process first. One occurs once for each namespace and root
            directory that it is in.
        gaps: What could not be looked at, one phrase each; if empty, every mount table was read.
        namespaces: The mount namespaces that have processes, as the kernel writes them: ``mnt:[NUMBER]``.
    """

    mounts: list[Mount]
    gaps: list[str]
    namespaces: Collection[str] = ()


def read_mount_table() -> MountTable:
    """Return all mounts, and why there may be more than these.

    Nothing but ``/proc`` is touched, so no file system of anybody else can make this wait. A process that
    ends in the meantime does not count as a gap.
    """
    mounts: list[Mount] = []
    gaps: list[str] = []
    try:
        own = _read_mounts("self")
    except OSError as error:
        # Also where /proc belongs to another PID namespace: it has no process of this one.
        return MountTable([], [f"/proc/self/mountinfo: {error.strerror}"])
    mounts += own
    try:
        views = _Views(gaps)
        for pid in list_processes():
            for process in _iter_threads(pid):
                mounts += views.read(process)
    except OSError as error:
        return MountTable(mounts, [f"/proc: {error.strerror}"])
    views.close()
    gaps += _find_hidden_processes(own)
    gaps += _find_empty_namespaces(mounts, views)
    return MountTable(mounts, gaps, views.namespaces)


class _Views:
    """Reads the mount table of one process for each pair of mount namespace and root directory."""

    def __init__(self, gaps: list[str]) -> None:
        self._gaps = gaps
        self._denied = 0
        self._first_denied: tuple[str, str] | None = None
        self._seen: set[tuple[str, str]] = set()
        self.namespaces: set[str] = set()
        with contextlib.suppress(OSError):
            self._note_view("self")

    def _note_view(self, process: str) -> bool:
        """Record what a process sees; return whether another one has shown that already."""
        # The text of the link and not what it leads to: stat(2) would ask a file system of that process.
        namespace, root = os.readlink(f"/proc/{process}/ns/mnt"), os.readlink(f"/proc/{process}/root")
        self.namespaces.add(namespace)
        is_known = (namespace, root) in self._seen
        self._seen.add((namespace, root))
        # Other roots may be called the same if a mount covers one of them.
        return is_known and root == "/"

    def read(self, process: str) -> list[Mount]:
        try:
            if self._note_view(process):
                return []
        except PermissionError:
            pass  # the table may be readable all the same
        except OSError:
            if has_ended(process):
                return []
        try:
            return _read_mounts(process)
        except OSError as error:
            if not has_ended(process):
                self._denied += 1
                self._first_denied = self._first_denied or (process, os.strerror(error.errno or 0))
            return []

    def close(self) -> None:
        """Sum up what could not be read."""
        if self._first_denied is not None:
            process, reason = self._first_denied
            more = f" and {self._denied - 1} more" if self._denied > 1 else ""
            self._gaps.append(f"mounts of process {process}{more}: {reason}")


def _read_mounts(process: str) -> list[Mount]:
    """Return the mounts that one process sees, whose lines name it by its number.

    Raises:
        OSError: They cannot be read; EBADMSG for a line of another form.
    """
    mounts = []
    with open(f"/proc/{process}/mountinfo", "rb") as stream:
        while line := stream.readline(_MAX_LINE_BYTES):
            mount = parse_mount(line, process)
            if mount is None:
                raise OSError(errno.EBADMSG, "unknown format of a line", f"/proc/{process}/mountinfo")
            mounts.append(mount)
    return mounts


def read_own_mounts() -> list[Mount]:
    """Return the mounts that this process sees, those that cover others behind them.

    Raises:
        OSError: They cannot be read.
    """
    return _read_mounts("self")


def find_mountpoint(mount_id: int) -> str | None:
    """Return where a mount is; None if it is nowhere that this process sees, or covered by another one."""
    try:
        mounts = read_own_mounts()
    except OSError:
        return None
    found = [mount.mountpoint for mount in mounts if mount.mount_id == mount_id]
    if not found or next(m for m in reversed(mounts) if m.mountpoint == found[0]).mount_id != mount_id:
        return None
    return os.fsdecode(found[0])


def list_processes() -> list[int]:
    """Return the numbers of all processes that ``/proc`` shows.

    Raises:
        OSError: It cannot be read.
    """
    return sorted(int(name) for name in os.listdir("/proc") if name.isdecimal())


def _iter_threads(pid: int) -> Iterator[str]:
    """Yield the names in ``/proc`` of all threads of a process, the process itself first."""
    yield str(pid)
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:  # ended, or not to be looked into, which reading it has shown
        return
    yield from (f"{pid}/task/{thread}" for thread in threads if thread != str(pid))


def has_ended(process: int | str) -> bool:
    """Return whether a process or thread has ended, even if its parent has not waited for it yet."""
    try:
        with open(f"/proc/{process}/stat", "rb") as stream:
            state = stream.read(_MAX_LINE_BYTES).rpartition(b")")[2].split()[:1]
    except OSError as error:
        return error.errno in {errno.ENOENT, errno.ESRCH}
    return state in ([b"Z"], [b"X"], [b"x"])


def is_trusted_process(pid: int) -> bool:
    """Return whether a process belongs to root or to this process' user, in the same user namespace."""
    try:
        with open(f"/proc/{pid}/status", "rb") as stream:
            (users,) = [line.split()[1:] for line in stream if line.startswith(b"Uid:")]
        is_same = os.readlink(f"/proc/{pid}/ns/user") == os.readlink("/proc/self/ns/user")
    except (OSError, ValueError):
        return False
    return is_same and {int(user) for user in users} <= {0, os.geteuid()}


def _find_hidden_processes(own: list[Mount]) -> Iterator[str]:
    """Yield why ``/proc`` may not show all processes."""
    try:
        with open("/proc/self/status", "rb") as stream:
            fields = dict(line.rstrip(b"\n").split(b":\t", 1) for line in stream if b":\t" in line)
        may_trace = bool(int(fields[b"CapEff"], 16) >> _CAP_SYS_PTRACE & 1)
        sees_all = _is_initial_pid_namespace("self") or _is_initial_pid_namespace("1")
    except (OSError, ValueError, KeyError) as error:
        yield f"/proc/self/status: {describe(error)}"
        return
    if not sees_all:
        yield "processes outside of this PID namespace"
    shown = [mount for mount in own if mount.mountpoint == b"/proc" and mount.kind == b"proc"]
    hide = [value for mount in shown for name, value in split_options(mount.options) if name == b"hidepid"]
    if not may_trace and any(value not in {b"0", b"off"} for value in hide):
        yield "processes of other users, which /proc hides (hidepid)"


def _is_initial_pid_namespace(process: str) -> bool:
    try:
        return os.readlink(f"/proc/{process}/ns/pid") == _INITIAL_PID_NAMESPACE
    except OSError:
        return False


def _find_empty_namespaces(mounts: list[Mount], views: _Views) -> Iterator[str]:
    """Yield mount namespaces that are kept by a file and have no process to look through."""
    seen = set()
    for mount in mounts:
        namespace = os.fsdecode(mount.root)
        if mount.kind == b"nsfs" and namespace.startswith("mnt:") and namespace not in views.namespaces:
            if namespace not in seen:
                yield f"mount namespace without processes at {os.fsdecode(mount.mountpoint)}"
            seen.add(namespace)


class OpenDirectory(NamedTuple):
    """A directory that a process works in or has open, in a mount that no table lists.

    Attributes:
        pid: The process.
        fd: O_PATH descriptor of it, owned by the iterator until the next step.
        mount_id: Number of the mount.
    """

    pid: int
    fd: int
    mount_id: int


def iter_unlisted(
    listed: Collection[int], gaps: list[str], namespaces: Collection[str], open_namespaces: dict[str, int]
) -> Iterator[OpenDirectory]:
    """Yield open directories in mounts that are not listed, for each process the first of each mount.

    Open files do not count: they stay readable even if their names are removed.

    Args:
        listed: Numbers of the mounts that are known.
        gaps: Given a phrase if there are processes that this one may not look into.
        namespaces: The mount namespaces whose tables were read.
        open_namespaces: Given each other mount namespace that an open file keeps, with a process that has it
            open.

    Raises:
        OSError: ``/proc`` cannot be read.
    """
    denied: list[int] = []
    for pid in list_processes():
        seen: set[int] = set()
        for process in _iter_threads(pid):
            try:
                opened = os.listdir(f"/proc/{process}/fd")
            except OSError:
                if not has_ended(process) and pid not in denied:
                    denied.append(pid)
                continue
            for name in ["root", "cwd", *[f"fd/{number}" for number in opened]]:
                path = f"/proc/{process}/{name}"
                yield from _find_unlisted(pid, path, listed, seen)
                namespace = _read_namespace(path)
                if namespace is not None and namespace not in namespaces:
                    open_namespaces.setdefault(namespace, pid)
    if denied:
        more = f" and {len(denied) - 1} more" if len(denied) > 1 else ""
        gaps.append(f"what process {denied[0]}{more} has open")


def _read_namespace(path: str) -> str | None:
    """Return the mount namespace that an open file stands for, or None for any other file."""
    try:
        target = os.readlink(path)
    except OSError:
        return None
    return target if target.startswith("mnt:[") else None


def _find_unlisted(pid: int, path: str, listed: Collection[int], seen: set[int]) -> Iterator[OpenDirectory]:
    """Yield what a link in ``/proc`` leads to if that is a directory in a mount that is not listed."""
    try:
        # Pipes and sockets have no path; the others tell their mount without being asked themselves.
        if not os.readlink(path).startswith("/"):
            return
        head, is_file, number = path.rpartition("/fd/")
        mount_id = _find_mount_id(f"{head}/fdinfo/{number}") if is_file else None
        if mount_id in listed or mount_id in seen:
            return
        fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:  # closed in the meantime, or no directory
        return
    try:
        mount_id = find_mount_id(fd)
        if mount_id is not None and mount_id not in listed and mount_id not in seen:
            seen.add(mount_id)
            yield OpenDirectory(pid, fd, mount_id)
    finally:
        os.close(fd)


def find_mount_id(fd: int) -> int | None:
    """Return the number of the mount that an open file is in, or None if that cannot be told."""
    return _find_mount_id(f"/proc/self/fdinfo/{fd}")


def _find_mount_id(path: str) -> int | None:
    try:
        with open(path, "rb") as stream:
            for line in stream:
                name, _, value = line.partition(b":")
                if name == b"mnt_id":
                    return int(value)
    except (OSError, ValueError):
        return None
    return None


def find_mount_device(mount_id: int) -> int | None:
    """Return the device number of the file system that a mount of this process is of, or None."""
    start = b"%d " % mount_id
    try:
        with open("/proc/self/mountinfo", "rb") as stream:
            found = (parse_mount(line, "self") for line in stream if line.startswith(start))
            return next((mount.device for mount in found if mount is not None), None)
    except OSError:
        return None


def split_options(options: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of a file system's options, in order; no value is an empty one."""
    pairs = [option.partition(b"=") for option in options.split(b",")]
    return [(unescape(name), unescape(value)) for name, _, value in pairs]
