"""Mounting an image of a repository, with the objects of that repository."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cfsctl.mount import MountOptions, Verity, mount_image, open_image_mount

if TYPE_CHECKING:
    from cfsctl.mount import WritableLayer
    from cfsctl.repository.repository import Repository


def mount_stored_image(
    repository: Repository,
    name: str,
    mountpoint: str,
    *,
    writable_layer: WritableLayer | None = None,
    read_write: bool = False,
) -> None:
    """Mount an image; where the repository insists on fs-verity, the mount does too.

    Args:
        repository: The repository, open; the mount stays when it is closed.
        name: A hex ID, ``sha512:<hex>``, ``refs/<ref>`` or a ref.
        mountpoint: A directory.
        writable_layer: Where changes go, or None for a tree that cannot change.
        read_write: Allow writing through the mount.

    Raises:
        RefNotFoundError: There is no such image.
        IntegrityError: The image is missing or damaged.
        OSError: The kernel refused; nothing is mounted then.
    """
    image = repository.images.open(name)
    try:
        options = MountOptions(
            name=name,
            verity=Verity.REQUIRE if image.require_verity else Verity.OFF,
            writable_layer=writable_layer,
            read_write=read_write,
        )
        mount_image(image.fd, [repository.objects.objects_fd()], mountpoint, options)
    finally:
        os.close(image.fd)


def create_stored_mount(
    repository: Repository,
    name: str,
    *,
    writable_layer: WritableLayer | None = None,
    read_write: bool = False,
) -> int:
    """Mount an image as the kernel does for `mount_stored_image`; return the mount, attached nowhere.

    Raises:
        RefNotFoundError: There is no such image.
        IntegrityError: The image is missing or damaged.
        OSError: The kernel refused.
    """
    image = repository.images.open(name)
    try:
        options = MountOptions(
            name=name,
            verity=Verity.REQUIRE if image.require_verity else Verity.OFF,
            writable_layer=writable_layer,
            read_write=read_write,
        )
        return open_image_mount(image.fd, [repository.objects.objects_fd()], options)
    finally:
        os.close(image.fd)
