"""``cfsctl rename``, ``cfsctl image rename``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_image_refs
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.refs import show_change


@click.command("rename", cls=Command)
@click.argument("name", shell_complete=complete_image_refs)
@click.argument("new_name")
@json_option()
@pass_session
def command(session: Session, *, name: str, new_name: str, as_json: bool) -> None:
    """Rename the image ref NAME to NEW_NAME, with its history; nothing is replaced.

    For tags of commits, there is `ostree rename`; for OCI images, `oci rename`.
    """
    with session.open() as repository:
        change = repository.rename_image(name, new_name)
    show_change(change, "image", key="name", as_json=as_json, text=f"Renamed {name} to {change.name}")
