"""``cfsctl ostree mount``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_commits, complete_directories
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.mount import MountArguments, mount_options, show_mount


@click.command("mount", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@click.argument("mountpoint", shell_complete=complete_directories)
@mount_options
@json_option()
@pass_session
def command(
    session: Session, *, source: str, mountpoint: str, mounting: MountArguments, as_json: bool
) -> None:
    """Mount the commit SOURCE at MOUNTPOINT.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    with session.open() as repository:
        image_id = repository.commit_image(
            source, erofs_version=session.format_version, progress=session.progress
        )
        repository.mount(image_id, mountpoint, **mounting.as_keywords(session))
    show_mount(image_id if as_json else None, mountpoint)
