"""``cfsctl cat``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_streams
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.output import write_chunk


@click.command("cat", cls=Command)
@click.argument("name", shell_complete=complete_streams)
@pass_session
def command(session: Session, name: str) -> None:
    """Write the content of the stream NAME to standard output.

    NAME is a content identifier such as ostree-commit-<checksum>, or refs/<ref>.
    """
    with session.open() as repository:
        repository.read_stream(name, write_chunk)
