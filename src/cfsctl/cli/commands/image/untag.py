"""``cfsctl untag``, ``cfsctl image untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_image_refs
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.refs import show_removal


@click.command("untag", cls=Command)
@click.argument("name", shell_complete=complete_image_refs)
@json_option()
@pass_session
def command(session: Session, *, name: str, as_json: bool) -> None:
    """Remove the image ref NAME and its history. Images stay until garbage collection.

    For tags of commits, there is `ostree untag`; for OCI images, `oci untag`.
    """
    with session.open() as repository:
        change = repository.remove_image(name)
    show_removal(change, key="name", as_json=as_json, text=f"Removed image ref {change.name}")
