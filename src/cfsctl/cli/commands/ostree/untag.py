"""``cfsctl ostree untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_tags
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command


@click.command("untag", cls=Command)
@click.argument("name", shell_complete=complete_tags)
@pass_session
def command(session: Session, name: str) -> None:
    """Remove the tag NAME. Its commit stays until garbage collection."""
    with session.open() as repository:
        repository.untag(name)
