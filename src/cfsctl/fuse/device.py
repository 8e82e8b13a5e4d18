"""Mounting a FUSE file system: by the kernel's mount calls, or for users by ``fusermount3``.

Users may not mount, so fusermount3, which is set-uid root, does it for them. It opens the device, checks that
the mount point belongs to the user, mounts, and sends the device over a socket.
"""

from __future__ import annotations

import array
import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, describe
from cfsctl.linux.mountapi import (
    MOUNT_ATTR_RDONLY,
    fsconfig_create,
    fsconfig_flag,
    fsconfig_string,
    fsmount,
    fsopen,
)

if TYPE_CHECKING:
    import socket
    import subprocess
    from collections.abc import Sequence

DEVICE: Final = "/dev/fuse"
SUBTYPE: Final = "composefs"
"""The type of a plain mount is ``fuse.composefs``."""

LABEL: Final = "composefs-fuse"
"""What the source of a mount begins with; a colon and the image's ID follow."""

_HELPERS: Final = ("fusermount3", "fusermount")
_HELPER_TIMEOUT_S: Final = 60.0


class FuseUnavailableError(CfsError):
    """FUSE cannot be used here."""


class FuseMountError(CfsError):
    """A FUSE file system was not mounted or not unmounted."""


def make_source(image_id: bytes) -> str:
    """Return the source that a mount of an image has in the mount tables."""
    return f"{LABEL}:{image_id.hex()}"


def parse_source(source: str) -> str | None:
    """Return the image's ID, in hex, in the source of a mount; None if it is not one of ours."""
    head, colon, text = source.partition(":")
    return text if head == LABEL and colon else None


def open_device() -> int:
    """Open the FUSE device; the caller owns the descriptor.

    Raises:
        FuseUnavailableError: There is none, or it may not be opened.
    """
    try:
        return os.open(DEVICE, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise explain_device(error) from error


def explain_device(error: OSError) -> FuseUnavailableError:
    """Return the error that says what to do about the FUSE device."""
    if error.errno in {errno.ENOENT, errno.ENODEV, errno.ENXIO}:
        return FuseUnavailableError(
            f"{DEVICE}: {error.strerror}; FUSE is not available",
            hint="load the kernel module with `modprobe fuse`; for a container, add the device: "
            f"`--device {DEVICE}`",
        )
    return FuseUnavailableError(
        f"{DEVICE}: {error.strerror}",
        hint=f"the administrator must give users permission to open it: `chmod 666 {DEVICE}`",
    )


def create_mount(device: int, source: str) -> int:
    """Make a file system of a FUSE device; return a mount of it, attached nowhere, owned by the caller.

    The kernel checks the permissions, and lets all users in who are in the user namespace.

    Raises:
        OSError: The kernel refuses.
    """
    try:
        return _create_mount(device, source)
    except OSError as error:
        raise OSError(error.errno, f"mounting with FUSE: {describe(error)}") from error


def _create_mount(device: int, source: str) -> int:
    context = fsopen("fuse")
    try:
        for flag in ("ro", "default_permissions", "allow_other"):
            fsconfig_flag(context, flag)
        options = {
            "source": source,
            "subtype": SUBTYPE,
            "rootmode": "040555",
            "user_id": str(os.geteuid()),
            "group_id": str(os.getegid()),
            "fd": str(device),
        }
        for key, value in options.items():
            fsconfig_string(context, key, value)
        fsconfig_create(context)
        return fsmount(context, MOUNT_ATTR_RDONLY)
    finally:
        os.close(context)


def mount_for_user(mountpoint: str, source: str, *, allow_other: bool = False) -> int:
    """Have fusermount3 mount a FUSE file system; return its device, owned by the caller.

    Args:
        mountpoint: A directory of the user.
        source: What the mount is called in mount tables.
        allow_other: Let other users in, which the administrator has to permit.

    Raises:
        FuseUnavailableError: There is no fusermount3.
        FuseMountError: It refuses.
    """
    names = source.replace("\\", "\\\\").replace(",", "\\,")
    options = ["ro", "nosuid", "nodev", "default_permissions", f"fsname={names}", f"subtype={SUBTYPE}"]
    if allow_other:
        options.append("allow_other")
    import socket  # only for users who mount; who looks for mounts needs this module, too

    ours, theirs = socket.socketpair()
    with ours, theirs:
        environment = os.environ | {"_FUSE_COMMFD": str(theirs.fileno())}
        done = _run_helper(
            ["-o", ",".join(options), "--", mountpoint], environment, pass_fds=[theirs.fileno()]
        )
        theirs.close()
        if done.returncode:
            raise _explain_refusal(f"mounting at {mountpoint}", done)
        device = _receive(ours)
    if device is None:
        raise FuseMountError(f"mounting at {mountpoint}: fusermount3 has not sent the FUSE device")
    return device


def unmount_for_user(mountpoint: str, *, lazy: bool = False) -> None:
    """Have fusermount3 unmount a FUSE file system of the user.

    Raises:
        FuseUnavailableError: There is no fusermount3.
        FuseMountError: It refuses.
    """
    done = _run_helper(["-u", *(["-z"] if lazy else []), "--", mountpoint], dict(os.environ))
    if done.returncode:
        raise _explain_refusal(f"unmounting {mountpoint}", done)


def _run_helper(
    arguments: Sequence[str], environment: dict[str, str], pass_fds: Sequence[int] = ()
) -> subprocess.CompletedProcess[str]:
    import subprocess  # as `socket`

    for program in _HELPERS:
        try:
            return subprocess.run(
                [program, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                encoding="utf-8",
                errors="backslashreplace",
                env=environment,
                pass_fds=tuple(pass_fds),
                timeout=_HELPER_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError:
            continue
        except subprocess.TimeoutExpired as error:
            raise FuseMountError(f"{program} has not ended after {_HELPER_TIMEOUT_S:g} s") from error
    raise FuseUnavailableError(
        "fusermount3 is not installed; without it, only root can mount",
        hint="install the package fuse3",
    )


def _explain_refusal(step: str, done: subprocess.CompletedProcess[str]) -> CfsError:
    said = " ".join(done.stderr.split()) or f"exit status {done.returncode}"
    if DEVICE in said:
        return FuseUnavailableError(
            f"{step}: {said}",
            hint=f"{DEVICE} must exist (`modprobe fuse`), and users need permission to open it "
            f"(`chmod 666 {DEVICE}`)",
        )
    hints = {
        "user_allow_other": "add the line user_allow_other to /etc/fuse.conf, or leave --allow-other out",
        "write access": "choose a directory that belongs to you",
        "not owner": "choose a directory that belongs to you",
        # Not even root may look into what a user has mounted, and fusermount3 is root.
        "failed to access mountpoint": "if something is mounted there already, unmount it (`cfsctl umount`)",
        "too many": "unmount others, or raise mount_max in /etc/fuse.conf",
        "busy": "end the programs that use it (`fuser -vm`), or unmount it with --lazy",
    }
    return FuseMountError(
        f"{step}: {said}", hint=next((hint for word, hint in hints.items() if word in said), None)
    )


def _receive(channel: socket.socket) -> int | None:
    """Return the descriptor that was sent over a socket, or None."""
    import socket  # as where it is made

    room = array.array("i")
    _, ancillary, _, _ = channel.recvmsg(1, socket.CMSG_SPACE(room.itemsize), socket.MSG_CMSG_CLOEXEC)
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS and len(data) >= room.itemsize:
            room.frombytes(data[: room.itemsize])
            return room[0]
    return None
