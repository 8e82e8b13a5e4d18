"""What the commands that mount an image have in common."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.mount import MountOptions
    from cfsctl.repository import Repository


class MountArguments(TypedDict):
    """What `cfsctl.cli.parameters.mount_options` adds to a command."""

    fuse: str
    upperdir: str | None
    workdir: str | None
    read_write: bool


def check_mount_options(upperdir: str | None, workdir: str | None, *, read_write: bool) -> None:
    """Refuse options that need each other.

    Raises:
        click.UsageError: One of them is alone.
    """
    if (upperdir is None) != (workdir is None):
        raise click.UsageError("--upperdir and --workdir need each other")
    if read_write and upperdir is None:
        raise click.UsageError("--read-write needs --upperdir")


def mount_image_of(
    repository: Repository, name: str, mountpoint: str, **arguments: Unpack[MountArguments]
) -> None:
    """Mount an image of a repository.

    Args:
        repository: The repository, open.
        name: Image ID or ref.
        mountpoint: A directory.
        **arguments: As given on the command line.
    """
    from cfsctl.mount import mount_image  # noqa: PLC0415 - keeps --help quick

    image = repository.images.open(name)
    try:
        options = _options(name, is_secure=image.require_verity, **arguments)
        mount_image(image.fd, [repository.objects.objects_fd()], mountpoint, options)
    finally:
        os.close(image.fd)


def _options(name: str, *, is_secure: bool, **arguments: Unpack[MountArguments]) -> MountOptions:
    from cfsctl.mount import MountOptions, Verity, WritableLayer  # noqa: PLC0415 - as above

    upperdir, workdir = arguments["upperdir"], arguments["workdir"]
    return MountOptions(
        name=name,
        verity=Verity.REQUIRE if is_secure else Verity.OFF,
        writable_layer=None if upperdir is None or workdir is None else WritableLayer(upperdir, workdir),
        read_write=arguments["read_write"],
    )
