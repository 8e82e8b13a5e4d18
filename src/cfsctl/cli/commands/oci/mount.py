"""``cfsctl oci mount``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories, complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import TEXT, mount_options
from cfsctl.cli.options.mount import MountArguments, check_mount_options, mount_image_of

if TYPE_CHECKING:
    from typing import Unpack


@click.command("mount")
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("mountpoint", shell_complete=complete_directories)
@click.option("--bootable", is_flag=True, help="Mount the boot image.")
@mount_options
@pass_session
def command(
    session: Session, *, image: str, mountpoint: str, bootable: bool, **arguments: Unpack[MountArguments]
) -> None:
    """Mount IMAGE at MOUNTPOINT.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one.
    """
    from cfsctl.oci.store.image_refs import linked_image  # noqa: PLC0415 - keeps --help quick
    from cfsctl.oci.store.images import open_config, resolve  # noqa: PLC0415 - the same

    check_mount_options(arguments["upperdir"], arguments["workdir"], read_write=arguments["read_write"])
    with session.open_repository() as repository:
        config = open_config(repository, resolve(repository, image))
        image_id = linked_image(config.document.refs, repository.erofs_versions[0], bootable=bootable)
        mount_image_of(repository, image_id.hex(), mountpoint, **arguments)
