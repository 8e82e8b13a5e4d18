"""The FUSE servers that run at this moment, and what they serve.

A server tells about itself in a file without a name (memfd_create(2)) that it has open: what it serves,
where, and of which repository. So nothing is left behind when it is killed. Others find it by the name of its
process, and read it through ``/proc``; only the same user and root may.

The text may come from anybody: a process can claim anything about itself. It is never trusted for more than
to keep an image or to wait for a process for a while.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
from typing import TYPE_CHECKING, Final, NamedTuple

from cfsctl.json_fields import JsonError, parse_object
from cfsctl.linux.mountinfo import is_trusted_process, list_processes
from cfsctl.linux.syscalls import stat_cached

if TYPE_CHECKING:
    from collections.abc import Iterator

PROCESS_NAME: Final = "cfsctl-fuse"
"""What the processes of servers are called; the kernel keeps 15 characters."""

_LINK: Final = f"/memfd:{PROCESS_NAME} (deleted)"
_MAX_BYTES: Final = 1 << 15
_ALL_SEALS: Final = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


class Served(NamedTuple):
    """What a server says about itself.

    Attributes:
        image: ID of the image, hex.
        mountpoint: Where it was mounted.
        mount_id: Number of the mount in its namespace.
        mode: ``fuse``, or ``fuse-overlay`` with an overlay over it.
        repository: Path of the repository.
        device: Device number of the repository's directory.
        inode: Its inode.
    """

    image: str
    mountpoint: str
    mount_id: int
    mode: str
    repository: str
    device: int
    inode: int


class Server(NamedTuple):
    """A server that runs.

    Attributes:
        pid: Its process.
        namespace: The mount namespace that it is in, as the kernel writes it; empty if unknown.
        served: What it serves.
        is_trusted: Whether it belongs to root or this user, in the same user namespace.
    """

    pid: int
    namespace: str
    served: Served
    is_trusted: bool


def publish(served: Served) -> int:
    """Make this process known as a server; return the file that says so, which must stay open."""
    # Paths are bytes, and JSON has none.
    paths = {"mountpoint": _to_latin(served.mountpoint), "repository": _to_latin(served.repository)}
    text = json.dumps(served._asdict() | paths).encode()
    fd = os.memfd_create(PROCESS_NAME, os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        os.write(fd, text)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _ALL_SEALS)
        with contextlib.suppress(OSError):
            _write_name()
    except BaseException:
        os.close(fd)
        raise
    return fd


def _write_name() -> None:
    with open("/proc/self/comm", "wb") as stream:
        stream.write(PROCESS_NAME.encode())


def find_servers() -> list[Server]:
    """Return the servers that this process can see, by number of their process."""
    try:
        return list(_iter_servers())
    except OSError:  # no /proc
        return []


def find_server(pid: int) -> Server | None:
    """Return what one process serves, or None if it is not a server or cannot be inspected."""
    if _read(f"/proc/{pid}/comm", 64).strip() != PROCESS_NAME.encode():
        return None
    try:
        numbers = os.listdir(f"/proc/{pid}/fd")
        namespace = os.readlink(f"/proc/{pid}/ns/mnt")
    except OSError:
        return None
    device = _find_memory_device()
    for number in numbers:
        served = _read_served(f"/proc/{pid}/fd/{number}", device)
        if served is not None:
            return Server(pid, namespace, served, is_trusted_process(pid))
    return None


def _iter_servers() -> Iterator[Server]:
    for pid in list_processes():
        server = find_server(pid)
        if server is not None:
            yield server


def _find_memory_device() -> int:
    """Return the device number that files without a name have, of which users cannot make others."""
    fd = os.memfd_create(PROCESS_NAME, os.MFD_CLOEXEC)
    try:
        return os.fstat(fd).st_dev
    finally:
        os.close(fd)


def _read_served(path: str, memory_device: int) -> Served | None:
    """Return what an open file of another process says, or None if it is something else."""
    try:
        if os.readlink(path) != _LINK:
            return None
        # Anything can have such a name, and reading it could wait for ever; so the file is looked at first.
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if stat_cached(handle).device != memory_device:
            return None
        return _parse(_read(f"/proc/self/fd/{handle}", _MAX_BYTES))
    except (JsonError, OSError):
        return None
    finally:
        os.close(handle)


def _parse(data: bytes) -> Served:
    """Return what a server has written.

    Raises:
        JsonError: It is something else.
    """
    fields = parse_object(data, "FUSE server")
    return Served(
        image=fields.get_string("image"),
        mountpoint=_from_latin(fields.get_string("mountpoint")),
        mount_id=fields.get_size("mount_id"),
        mode=fields.get_string("mode"),
        repository=_from_latin(fields.get_string("repository")),
        device=fields.get_size("device"),
        inode=fields.get_size("inode"),
    )


def _to_latin(path: str) -> str:
    return os.fsencode(path).decode("latin-1")


def _from_latin(text: str) -> str:
    return os.fsdecode(text.encode("latin-1", "replace"))


def _read(path: str, limit: int) -> bytes:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ESRCH, errno.EACCES, errno.EPERM}:
            return b""
        raise
    try:
        return os.read(fd, limit)
    except OSError:
        return b""
    finally:
        os.close(fd)
