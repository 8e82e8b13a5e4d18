"""Find out who holds the lock of a repository: the process, its command line, and its start time.

``/proc/locks`` (proc_locks(5)) shows which process took a lock. If that process has forked and ended, the
lock stays with its children. Then the open file of the lock is searched for among those of all processes
(proc_pid_fdinfo(5)).
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from cfsctl.linux.mountinfo import find_mount_device, find_mount_id, is_trusted_process

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_MAX_NAMED: Final = 3
_MAX_COMMAND_CHARACTERS: Final = 100
_MAX_READ_CHARACTERS: Final = 1 << 24
"""Of one file in /proc; a line of ``/proc/locks`` has about 60."""

_START_FIELD: Final = 19
"""Place of the start time among what follows the name of the program in ``/proc/PID/stat``."""


def describe_holders(fd: int) -> str:
    """Return the other holders of a lock on the same file, for the end of a message; empty if unknown."""
    holders = [_describe(pid) for pid in find_holders(fd) if pid != os.getpid()]
    if not holders:
        return ""
    more = f" and {len(holders) - _MAX_NAMED} more" if len(holders) > _MAX_NAMED else ""
    return f"; held by {', '.join(holders[:_MAX_NAMED])}{more}"


def find_holders(fd: int) -> list[int]:
    """Return the IDs of the processes that hold a flock(2) on the same file, as far as can be seen.

    0 stands for processes of another PID namespace.
    """
    files = set(_names_in_locks(fd))
    found = set(_iter_flocks(_read("/proc/locks").split("\n"), files))
    lost = {pid for pid in found if pid and not os.path.exists(f"/proc/{pid}")}
    if lost:
        found = (found - lost) | set(_find_heirs(files))
    return sorted(found)


def _names_in_locks(fd: int) -> Iterator[str]:
    """Yield how a file may be called in a list of locks: ``major:minor:inode``.

    The device is that of the whole file system, which for a part of one (a Btrfs subvolume) stat(2) hides.
    """
    status = os.fstat(fd)
    mount_id = find_mount_id(fd)
    for device in (status.st_dev, None if mount_id is None else find_mount_device(mount_id)):
        if device is not None:
            yield f"{os.major(device):02x}:{os.minor(device):02x}:{status.st_ino}"


def _iter_flocks(lines: Iterable[str], files: set[str]) -> Iterator[int]:
    """Yield who took the flocks on these files; a line is number, kind, mode, type, process and file."""
    for line in lines:
        words = line.split()
        # Processes that wait for a lock are listed below it, after an arrow.
        if len(words) >= 6 and words[1] == "FLOCK" and words[5] in files and words[4].isdecimal():
            yield int(words[4])


def _find_heirs(files: set[str]) -> Iterator[int]:
    """Yield the processes that have a file open which has a flock on one of these files."""
    for name in _list("/proc"):
        if not name.isdecimal():
            continue
        for number in _list(f"/proc/{name}/fdinfo"):
            lines = _read(f"/proc/{name}/fdinfo/{number}").split("\n")
            locks = (line.removeprefix("lock:") for line in lines if line.startswith("lock:"))
            if any(True for _ in _iter_flocks(locks, files)):
                yield int(name)
                break


def _describe(pid: int) -> str:
    if not pid:
        return "a process of another PID namespace"
    command = _find_command(pid)
    started_s = _find_start(pid)
    text = f"process {pid}" + (f" ({command})" if command else "")
    if started_s is None:
        return text
    return f"{text}, running since {time.strftime('%Y-%m-%d %H:%M:%S UTC', time.gmtime(started_s))}"


def _find_command(pid: int) -> str:
    """Return how a program was called, without an interpreter; the name of its process if that is hidden."""
    # The kernel reads it from the memory of the process, and that may be a file of a file system that never
    # answers: the holder of the lock could block us forever.
    text = _read(f"/proc/{pid}/cmdline") if is_trusted_process(pid) else ""
    words = [word for word in text.split("\0") if word]
    if not words:
        return _read(f"/proc/{pid}/comm").strip()
    if os.path.basename(words[0]).startswith("python"):
        if words[1:3] == ["-P", "-m"] and len(words) > 3:  # as FUSE servers of ours are called
            del words[:3]
        elif len(words) > 1 and not words[1].startswith("-"):
            del words[0]
    text = " ".join([os.path.basename(words[0]), *words[1:]])
    return text if len(text) <= _MAX_COMMAND_CHARACTERS else f"{text[:_MAX_COMMAND_CHARACTERS]}..."


def _find_start(pid: int) -> float | None:
    """Return when a process was started, in seconds since 1970."""
    fields = _read(f"/proc/{pid}/stat").rpartition(")")[2].split()
    boot = [line.split()[1] for line in _read("/proc/stat").split("\n") if line.startswith("btime ")]
    try:
        return int(boot[0]) + int(fields[_START_FIELD]) / os.sysconf("SC_CLK_TCK")
    except (IndexError, ValueError):
        return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read(_MAX_READ_CHARACTERS)
    except OSError:
        return ""


def _list(path: str) -> list[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
