"""``cfsctl ostree rename``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_tags
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.refs import show_change


@click.command("rename", cls=Command)
@click.argument("name", shell_complete=complete_tags)
@click.argument("new_name")
@json_option()
@pass_session
def command(session: Session, *, name: str, new_name: str, as_json: bool) -> None:
    """Rename the tag NAME to NEW_NAME, with its history; nothing is replaced.

    The requirements of the pull that set the tag go with it.
    """
    with session.open() as repository:
        change = repository.rename_tag(name, new_name)
    show_change(change, "commit", as_json=as_json, text=f"Renamed {name} to {new_name}")
