"""Mounting an image of a repository, with the objects of that repository."""

from __future__ import annotations

import contextlib
import errno
import os
from typing import TYPE_CHECKING, Final

from cfsctl.errors import CfsError, describe
from cfsctl.mount import MountError, MountOptions, Verity, WritableLayer, mount_image, open_image_mount
from cfsctl.progress import Message, silent
from cfsctl.repository.mounting.choice import FuseMode, FuseOptions, may_kernel_mount

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.digest import ObjectID
    from cfsctl.progress import Reporter
    from cfsctl.repository.repository import Repository

_KERNEL_CANNOT: Final = frozenset(
    {errno.EPERM, errno.ENODEV, errno.ENOTBLK, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}
)
"""What the kernel says where it has no EROFS or overlayfs, or old ones, or not for this process."""


def mount_stored_image(
    repository: Repository,
    name: str,
    mountpoint: str,
    *,
    writable_layer: WritableLayer | None = None,
    read_write: bool = False,
    fuse: FuseOptions | None = None,
    reporter: Reporter = silent,
) -> None:
    """Mount an image; where the repository insists on fs-verity, the mount does too.

    Args:
        repository: The repository, open; the mount stays when it is closed.
        name: A hex ID, ``sha512:<hex>``, ``refs/<ref>`` or a ref.
        mountpoint: A directory.
        writable_layer: Where changes go, or None for a tree that cannot change.
        read_write: Allow writing through the mount.
        fuse: Whether a process serves the image by FUSE, and how; None is if the kernel cannot mount it.
        reporter: Told if FUSE is used although it was not asked for.

    Raises:
        RefNotFoundError: There is no such image.
        IntegrityError: The image is missing or damaged.
        CfsError: FUSE cannot be used.
        OSError: The kernel refused; nothing is mounted then.
    """
    fuse = fuse or FuseOptions()
    if fuse.mode is FuseMode.NO or (fuse.mode is FuseMode.AUTO and may_kernel_mount()):
        try:
            _mount_by_kernel(repository, name, mountpoint, writable_layer, read_write=read_write)
        except OSError as error:
            if fuse.mode is FuseMode.NO or isinstance(error, CfsError) or error.errno not in _KERNEL_CANNOT:
                raise
            refusal = error
        else:
            return
        reporter(Message(f"{mountpoint}: using FUSE because the kernel cannot mount it: {describe(refusal)}"))
    elif fuse.mode is FuseMode.AUTO:
        refusal = None
        reporter(Message(f"{mountpoint}: using FUSE because only root can have the kernel mount an image"))
    else:
        refusal = None
    try:
        _mount_by_fuse(repository, name, mountpoint, writable_layer, fuse, read_write=read_write)
    except (CfsError, OSError) as error:
        if refusal is None:
            raise
        # The user asked for neither of the two.
        reason = f"{describe(refusal)}; and by FUSE: {describe(error)}"
        raise MountError(refusal.errno, reason) from error


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
    with _opened_image(repository, name, writable_layer, read_write=read_write) as (fd, options):
        return open_image_mount(fd, [repository.objects.objects_fd()], options)


def _mount_by_kernel(
    repository: Repository,
    name: str,
    mountpoint: str,
    writable_layer: WritableLayer | None,
    *,
    read_write: bool,
) -> None:
    with _opened_image(repository, name, writable_layer, read_write=read_write) as (fd, options):
        mount_image(fd, [repository.objects.objects_fd()], mountpoint, options)


@contextlib.contextmanager
def _opened_image(
    repository: Repository, name: str, writable_layer: WritableLayer | None, *, read_write: bool
) -> Iterator[tuple[int, MountOptions]]:
    """Open an image to be mounted by the kernel; yield it with how to mount it."""
    image = repository.images.open(name)
    try:
        yield (
            image.fd,
            MountOptions(
                name=name,
                verity=Verity.REQUIRE if image.require_verity else Verity.OFF,
                writable_layer=writable_layer,
                read_write=read_write,
            ),
        )
    finally:
        os.close(image.fd)


def _mount_by_fuse(
    repository: Repository,
    name: str,
    mountpoint: str,
    writable_layer: WritableLayer | None,
    fuse: FuseOptions,
    *,
    read_write: bool,
) -> None:
    from cfsctl.repository.mounting.background import serve_in_background  # only for FUSE
    from cfsctl.repository.mounting.choice import choose_view
    from cfsctl.repository.mounting.fuse_server import FuseMount, serve_image

    mount = FuseMount(
        image_id=_find_image(repository, name),
        mountpoint=os.path.realpath(mountpoint),
        view=choose_view(needs_overlay=writable_layer is not None),
        writable_layer=_absolute(writable_layer),
        read_write=read_write,
        allow_other=fuse.allow_other,
    )
    if fuse.foreground:
        serve_image(repository, mount, lambda: None)
    else:
        serve_in_background(repository, mount)


def _absolute(layer: WritableLayer | None) -> WritableLayer | None:
    """Return a layer as the server finds it, which has another working directory."""
    if layer is None:
        return None
    return WritableLayer(os.path.abspath(layer.upperdir), os.path.abspath(layer.workdir))


def _find_image(repository: Repository, name: str) -> ObjectID:
    """Return the ID of an image that is there.

    Raises:
        RefNotFoundError: There is none of that name.
        IntegrityError: Its object is missing, or something else.
    """
    object_id = repository.images.require(name)
    os.close(repository.objects.open_measured(object_id).fd)
    return object_id
