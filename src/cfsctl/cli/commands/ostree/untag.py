"""``cfsctl ostree untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_tags
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.refs import show_removal


@click.command("untag", cls=Command)
@click.argument("name", shell_complete=complete_tags)
@json_option()
@pass_session
def command(session: Session, *, name: str, as_json: bool) -> None:
    """Remove the tag NAME and its history. Commits stay until garbage collection."""
    with session.open() as repository:
        change = repository.untag(name)
    show_removal(change, as_json=as_json, text=None)
