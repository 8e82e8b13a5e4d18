"""``cfsctl oci mount``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_directories, complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.mount import MountArguments, mount_options, show_mount


@click.command("mount", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("mountpoint", shell_complete=complete_directories)
@click.option("--bootable", is_flag=True, help="Mount the boot image.")
@mount_options
@json_option()
@pass_session
def command(
    session: Session, *, image: str, mountpoint: str, bootable: bool, mounting: MountArguments, as_json: bool
) -> None:
    """Mount IMAGE at MOUNTPOINT.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one.
    """
    with session.open() as repository:
        found = repository.oci.find_image(image, bootable=bootable) if as_json else None
        repository.oci.mount(image, mountpoint, bootable=bootable, **mounting.as_keywords(session))
    show_mount(found, mountpoint)
