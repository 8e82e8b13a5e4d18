"""``cfsctl mount``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories, complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import mount_options
from cfsctl.cli.options.mount import MountArguments, check_mount_options, mount_image_of

if TYPE_CHECKING:
    from typing import Unpack


@click.command("mount")
@click.argument("name", shell_complete=complete_images)
@click.argument("mountpoint", shell_complete=complete_directories)
@mount_options
@pass_session
def command(session: Session, *, name: str, mountpoint: str, **arguments: Unpack[MountArguments]) -> None:
    """Mount the image NAME at MOUNTPOINT.

    NAME is an image ID, a ref, or refs/<ref>. If the repository enforces fs-verity, the mount does too.
    """
    check_mount_options(arguments["upperdir"], arguments["workdir"], read_write=arguments["read_write"])
    with session.open_repository() as repository:
        mount_image_of(repository, name, mountpoint, **arguments)
