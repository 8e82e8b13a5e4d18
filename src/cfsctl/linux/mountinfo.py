"""What is mounted, in every mount namespace that this process may look into.

Format: ``/proc/PID/mountinfo``, see proc_pid_mountinfo(5). It shows the mounts that are reachable from the
process's root directory, so a namespace with processes in a chroot is read once for each root. A mount
that was taken off its place while it was in use (``umount --lazy``), or has not been put in one, is in
nobody's list: there the directories that processes have open must tell.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

_ESCAPED = re.compile(rb"\\([0-7]{3})")
_SEPARATOR: Final = b" - "
_MIN_FIELDS: Final = 6
_MAX_LINE_BYTES: Final = 1 << 20
"""A line holds options of at most a page and paths of at most 4096 bytes, escaped."""


class Mount(NamedTuple):
    """One mount, as one process sees it.

    Attributes:
        pid: The process.
        mount_id: Number of the mount, unique among those that exist.
        device: Device number of the file system, the same for all mounts of it.
        mountpoint: Where it is, below the root directory of the process.
        kind: Type of the file system.
        source: What it was made from.
        options: Options of the file system, not split and not unescaped.
    """

    pid: int
    mount_id: int
    device: int
    mountpoint: bytes
    kind: bytes
    source: bytes
    options: bytes

    @property
    def path(self) -> bytes:
        """Where it is, as a path that leads there from any namespace."""
        return b"/proc/%d/root%b" % (self.pid, self.mountpoint)


def unescape(text: bytes) -> bytes:
    r"""Return a field with ``\ooo`` replaced by the bytes that stand for it."""
    return _ESCAPED.sub(lambda match: bytes([int(match[1], 8) & 0xFF]), text) if b"\\" in text else text


def parse_mount(line: bytes, pid: int) -> Mount | None:
    """Return the mount that a line of mountinfo describes, or None for a line of another form."""
    head, separator, tail = line.rstrip(b"\n").partition(_SEPARATOR)
    fields, rest = head.split(b" "), tail.split(b" ")
    if not separator or len(fields) < _MIN_FIELDS or len(rest) < 2:
        return None
    major, colon, minor = fields[2].partition(b":")
    if not colon or not (fields[0].isdigit() and major.isdigit() and minor.isdigit()):
        return None
    return Mount(
        pid,
        int(fields[0]),
        os.makedev(int(major), int(minor)),
        unescape(fields[4]),
        rest[0],
        unescape(rest[1]),
        b" ".join(rest[2:]),
    )


def iter_mounts() -> Iterator[Mount]:
    """Yield all mounts that can be seen, those of this process first.

    A mount occurs once for each namespace and root directory that it is in. What vanishes meanwhile, and
    what this process may not look into, is left out.
    """
    for pid in _one_of_each_view():
        try:
            with open(f"/proc/{pid}/mountinfo", "rb") as stream:
                while line := stream.readline(_MAX_LINE_BYTES):
                    mount = parse_mount(line, pid)
                    if mount is not None:
                        yield mount
        except OSError:  # the process has ended, or is none of ours
            continue


class OpenDirectory(NamedTuple):
    """A directory that a process works in or has open.

    Attributes:
        pid: The process.
        path: What leads there from any namespace, as long as the process keeps it.
        device: Device number of the file system it is on.
    """

    pid: int
    path: str
    device: int


def iter_unlisted(listed: Collection[int]) -> Iterator[OpenDirectory]:
    """Yield an open directory on each file system that is not listed, as far as this process may look.

    Files alone do not count: what is open stays readable, whatever becomes of the names behind it.

    Args:
        listed: Device numbers of file systems that are known.
    """
    seen = set(listed)
    for pid in [os.getpid(), *_other_processes(os.getpid())]:
        try:
            numbers = os.listdir(f"/proc/{pid}/fd")
        except OSError:
            continue
        for name in ("root", "cwd", *[f"fd/{number}" for number in numbers]):
            path = f"/proc/{pid}/{name}"
            try:
                status = os.stat(path)
            except OSError:
                continue
            if status.st_dev not in seen and stat.S_ISDIR(status.st_mode):
                seen.add(status.st_dev)
                yield OpenDirectory(pid, path, status.st_dev)


def _one_of_each_view() -> Iterator[int]:
    """Yield one process for each pair of mount namespace and root directory."""
    own = os.getpid()
    seen: set[tuple[str, int, int]] = set()
    for pid in [own, *_other_processes(own)]:
        try:
            namespace = os.readlink(f"/proc/{pid}/ns/mnt")
            root = os.stat(f"/proc/{pid}/root")
        except OSError:
            continue
        view = (namespace, root.st_dev, root.st_ino)
        if view not in seen:
            seen.add(view)
            yield pid


def _other_processes(own: int) -> list[int]:
    try:
        names = os.listdir("/proc")
    except OSError:
        return []
    return sorted(pid for pid in (int(name) for name in names if name.isdecimal()) if pid != own)


def find_mount_id(fd: int) -> int | None:
    """Return the number of the mount that an open file is in, or None where that cannot be told."""
    try:
        with open(f"/proc/self/fdinfo/{fd}", "rb") as stream:
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
            found = (parse_mount(line, os.getpid()) for line in stream if line.startswith(start))
            return next((mount.device for mount in found if mount is not None), None)
    except OSError:
        return None


def split_options(options: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and values of a file system's options, in order; no value is an empty one."""
    pairs = [option.partition(b"=") for option in options.split(b",")]
    return [(unescape(name), unescape(value)) for name, _, value in pairs]
