"""``cfsctl umount``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_mountpoints
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document
from cfsctl.progress import Message


@click.command("umount", cls=Command)
@click.argument("mountpoint", shell_complete=complete_mountpoints)
@click.option(
    "-l",
    "--lazy",
    is_flag=True,
    help="Unmount even if the image is in use; programs can use open files until they close them.",
)
@json_option()
@pass_session
def command(session: Session, *, mountpoint: str, lazy: bool, as_json: bool) -> None:
    """Unmount the image at MOUNTPOINT.

    If it is served by FUSE, waits until the server has ended. Needs no repository.
    """
    from cfsctl.library.mounts import unmount

    pid = unmount(mountpoint, lazy=lazy)
    if as_json:
        print_document({"mountpoint": mountpoint, "server_pid": pid})
    elif pid is not None:
        session.progress(
            Message(f"{mountpoint}: unmounted here, but still used elsewhere; its server is process {pid}")
        )
