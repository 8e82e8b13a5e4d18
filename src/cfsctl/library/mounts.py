"""Unmounting images."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cfsctl.library.paths import StrPath


def list_mountpoints() -> list[str]:
    """Return the places where images are mounted."""
    from cfsctl.repository.mounting import unmounting

    return list(unmounting.list_mountpoints())


def unmount(mountpoint: StrPath, *, lazy: bool = False) -> int | None:
    """Unmount the image at a path, and wait until its FUSE server has ended, if it has one.

    Args:
        mountpoint: Where it is mounted.
        lazy: Also if it is in use; it ends with its last user then, and is not waited for.

    Returns:
        None; or the process of a server that still runs, since the mount is used elsewhere.

    Raises:
        CfsError: No image is mounted there, it is in use, or this user may not unmount it.
        OSError: The kernel refuses.
    """
    from cfsctl.repository.mounting.unmounting import unmount_image

    return unmount_image(os.fspath(mountpoint), lazy=lazy)
