"""Unmounting an image, and waiting until the FUSE server has ended that may be behind it."""

from __future__ import annotations

import contextlib
import errno
import os
import select
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, ExitCode
from cfsctl.fuse.device import LABEL, unmount_for_user
from cfsctl.linux.credentials import CAP_SYS_ADMIN, has_capability
from cfsctl.linux.mountapi import MNT_DETACH, UMOUNT_NOFOLLOW, umount
from cfsctl.linux.mountinfo import read_own_mounts
from cfsctl.repository.mounting.servers import find_server, find_servers

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.linux.mountinfo import Mount
    from cfsctl.repository.mounting.servers import Server

PATIENCE_S: Final = 30.0
"""How long to wait for a server, which ends within a moment unless its mount is still used elsewhere."""

_LABELS: Final = ("composefs:", f"{LABEL}:", LABEL)


def list_mountpoints() -> list[str]:
    """Return where images are mounted in this mount namespace, as far as that can be told."""
    try:
        mounts = read_own_mounts()
    except OSError:
        return []
    return sorted({os.fsdecode(mount.mountpoint) for mount in mounts if _is_image(mount)})


def _is_image(mount: Mount) -> bool:
    return os.fsdecode(mount.source).startswith(_LABELS)


class NotMountedError(CfsError):
    """No image is mounted there."""

    exit_code = ExitCode.NOT_FOUND


class UnmountError(CfsError):
    """An image was not unmounted."""


def unmount_image(mountpoint: str, *, lazy: bool = False, patience_s: float = PATIENCE_S) -> int | None:
    """Unmount the image that is mounted at a path, the topmost if there are several.

    Nothing is asked of the mount, so this also works if its server has been killed or is stuck.

    Args:
        mountpoint: Where it is mounted.
        lazy: Also if it is in use; it ends with its last user then, and is not waited for.
        patience_s: How long to wait for its FUSE server to end, in seconds.

    Returns:
        The process of a FUSE server that has not ended, or None.

    Raises:
        NotMountedError: No image is mounted there.
        UnmountError: It is in use, or this user may not unmount it.
        FuseMountError, FuseUnavailableError: As fusermount3 says.
        OSError: The kernel refuses for another reason.
    """
    mount = _find_mount(mountpoint)
    place = os.fsdecode(mount.mountpoint)
    with _watching(_find_own_server(mount)) as (pid, watch):
        if mount.kind.startswith(b"fuse") and not has_capability(CAP_SYS_ADMIN):
            unmount_for_user(place, lazy=lazy)
        else:
            _unmount(place, lazy=lazy)
        if watch is None or lazy:
            return None
        poll = select.poll()
        poll.register(watch, select.POLLIN)
        return None if poll.poll(patience_s * 1000) else pid


def _find_mount(mountpoint: str) -> Mount:
    """Return the topmost mount at a path, which must be one of an image."""
    parent, name = os.path.split(os.path.abspath(mountpoint))
    # Only what is above it is looked at: the mount itself may not answer any more.
    place = os.path.join(os.path.realpath(parent), name)
    mounts = read_own_mounts()
    for path in (place, os.path.realpath(mountpoint)):
        found = [mount for mount in mounts if mount.mountpoint == os.fsencode(path)]
        if found:
            break
    else:
        raise NotMountedError(f"{mountpoint}: nothing is mounted there")
    mount = found[-1]
    if not _is_image(mount):
        raise NotMountedError(
            f"{mountpoint}: expected a mount of an image, found {os.fsdecode(mount.kind)} from "
            f"{os.fsdecode(mount.source)}",
            hint="use umount for other file systems",
        )
    return mount


def _find_own_server(mount: Mount) -> Server | None:
    """Return the server of a mount of this namespace, if this user may tell."""
    if not os.fsdecode(mount.source).startswith(LABEL):
        return None
    try:
        namespace = os.readlink("/proc/self/ns/mnt")
    except OSError:
        return None
    servers = (s for s in find_servers() if s.namespace == namespace and s.is_trusted)
    return next((s for s in servers if s.served.mount_id == mount.mount_id), None)


@contextlib.contextmanager
def _watching(server: Server | None) -> Iterator[tuple[int, int | None]]:
    """Open a server's process, if it is still the same."""
    watch: int | None = None
    pid = 0 if server is None else server.pid
    if server is not None:
        with contextlib.suppress(OSError):
            watch = os.pidfd_open(pid)
            if find_server(pid) != server:  # another process has its number now
                os.close(watch)
                watch = None
    try:
        yield pid, watch
    finally:
        if watch is not None:
            os.close(watch)


def _unmount(place: str, *, lazy: bool) -> None:
    try:
        umount(place, UMOUNT_NOFOLLOW | (MNT_DETACH if lazy else 0))
    except OSError as error:
        if error.errno == errno.EBUSY:
            raise UnmountError(
                f"{place}: the mount is in use",
                hint="end the programs that use it (`fuser -vm`), or unmount it with --lazy",
            ) from error
        if error.errno == errno.EPERM:
            raise UnmountError(f"{place}: {error.strerror}; only root may unmount it") from error
        raise
