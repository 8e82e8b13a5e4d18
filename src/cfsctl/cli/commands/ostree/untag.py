"""``cfsctl ostree untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_tags
from cfsctl.cli.context import Session, pass_session


@click.command("untag")
@click.argument("name", shell_complete=complete_tags)
@pass_session
def command(session: Session, name: str) -> None:
    """Remove the tag NAME. Its commit stays until garbage collection."""
    from cfsctl.ostree.store.partial_tags import untag  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        untag(repository, name)
