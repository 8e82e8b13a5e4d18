"""Whether an image is mounted by the kernel or by FUSE, and how."""

from __future__ import annotations

import os
from dataclasses import dataclass
from enum import Enum

from cfsctl.errors import CfsError
from cfsctl.fuse.names import View
from cfsctl.linux.credentials import CAP_SYS_ADMIN, has_capability, is_in_initial_user_namespace
from cfsctl.mount import can_mount_user_overlay


class FuseMode(Enum):
    """Whether FUSE is used."""

    AUTO = "auto"
    """If the kernel cannot mount the image for this user."""

    YES = "yes"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class FuseOptions:
    """How an image is served by FUSE.

    Attributes:
        mode: Whether it is.
        foreground: Serve it in this process, and return when it is unmounted or SIGTERM or SIGINT comes.
        allow_other: Let other users look into the mount of a user.
    """

    mode: FuseMode = FuseMode.AUTO
    foreground: bool = False
    allow_other: bool = False


class NoOverlayError(CfsError):
    """What was asked for takes an overlay over FUSE, which is not possible here."""


def may_kernel_mount() -> bool:
    """Return whether this is root of the whole system, whom the kernel may let mount an EROFS."""
    return os.getuid() == 0 and is_in_initial_user_namespace()


def choose_view(*, needs_overlay: bool) -> View:
    """Return how a FUSE mount is made.

    Args:
        needs_overlay: There is an upper layer.

    Raises:
        NoOverlayError: An overlay is needed and cannot be made.
    """
    is_admin = has_capability(CAP_SYS_ADMIN)
    if is_admin and can_mount_user_overlay():
        return View.OVERLAY
    if not needs_overlay:
        return View.PLAIN
    if is_admin:
        raise NoOverlayError(
            "--upperdir with FUSE needs an overlay with userxattr over data-only layers, which this kernel "
            f"({os.uname().release}) refuses",
            hint="use Linux 6.16 or later, or mount without --upperdir and --read-write",
        )
    raise NoOverlayError(
        "--upperdir needs CAP_SYS_ADMIN, which this process does not have",
        hint="run it in a user namespace, for example in `unshare --user --map-root-user --mount` or "
        "`podman unshare`, or mount without --upperdir and --read-write",
    )
