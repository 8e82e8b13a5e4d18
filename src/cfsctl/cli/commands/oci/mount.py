"""``cfsctl oci mount``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_directories, complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.mount import MountArguments, mount_options


@click.command("mount", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("mountpoint", shell_complete=complete_directories)
@click.option("--bootable", is_flag=True, help="Mount the boot image.")
@mount_options
@pass_session
def command(
    session: Session, *, image: str, mountpoint: str, bootable: bool, mounting: MountArguments
) -> None:
    """Mount IMAGE at MOUNTPOINT.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one.
    """
    with session.open() as repository:
        repository.oci.mount(image, mountpoint, bootable=bootable, **mounting.as_keywords(session))
