"""``cfsctl mount``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_directories, complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.mount import MountArguments, mount_options, show_mount


@click.command("mount", cls=Command)
@click.argument("name", shell_complete=complete_images)
@click.argument("mountpoint", shell_complete=complete_directories)
@mount_options
@json_option()
@pass_session
def command(session: Session, *, name: str, mountpoint: str, mounting: MountArguments, as_json: bool) -> None:
    """Mount the image NAME at MOUNTPOINT.

    NAME is an image ID, a ref, or refs/<ref>. If the repository enforces fs-verity, the mount does too.
    """
    with session.open() as repository:
        found = repository.find_image(name) if as_json else None
        repository.mount(name, mountpoint, **mounting.as_keywords(session))
    show_mount(found, mountpoint)
