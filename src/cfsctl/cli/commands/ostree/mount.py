"""``cfsctl ostree mount``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_commits, complete_directories
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import mount_options
from cfsctl.cli.options.mount import MountArguments, check_mount_options, mount_image_of

if TYPE_CHECKING:
    from typing import Unpack


@click.command("mount")
@click.argument("source", shell_complete=complete_commits)
@click.argument("mountpoint", shell_complete=complete_directories)
@mount_options
@pass_session
def command(session: Session, *, source: str, mountpoint: str, **arguments: Unpack[MountArguments]) -> None:
    """Mount the commit SOURCE at MOUNTPOINT.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    from cfsctl.ostree.store.images import source_image  # noqa: PLC0415 - keeps --help quick

    check_mount_options(arguments["upperdir"], arguments["workdir"], read_write=arguments["read_write"])
    with session.open_repository() as repository:
        image_id = source_image(repository, source, session.format_version, reporter=session.progress)
        mount_image_of(repository, image_id.hex(), mountpoint, **arguments)
