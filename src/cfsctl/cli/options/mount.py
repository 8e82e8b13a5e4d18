"""Options and helpers of the commands that mount an image."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.repository import Repository


class MountArguments(TypedDict):
    """What `cfsctl.cli.options.common.mount_options` adds to a command."""

    fuse: str
    upperdir: str | None
    workdir: str | None
    read_write: bool


def check_mount_options(upperdir: str | None, workdir: str | None, *, read_write: bool) -> None:
    """Refuse options that must be used together.

    Raises:
        click.UsageError: One of them is alone.
    """
    if (upperdir is None) != (workdir is None):
        raise click.UsageError("--upperdir and --workdir must be used together")
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
    from cfsctl.mount import WritableLayer  # noqa: PLC0415 - keeps --help quick
    from cfsctl.repository.mounting import mount_stored_image  # noqa: PLC0415 - the same

    upperdir, workdir = arguments["upperdir"], arguments["workdir"]
    mount_stored_image(
        repository,
        name,
        mountpoint,
        writable_layer=None if upperdir is None or workdir is None else WritableLayer(upperdir, workdir),
        read_write=arguments["read_write"],
    )
