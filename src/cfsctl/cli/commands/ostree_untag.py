"""``cfsctl ostree untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_tags
from cfsctl.cli.context import Session, pass_session


@click.command("untag")
@click.argument("name", shell_complete=complete_tags)
@pass_session
def command(session: Session, name: str) -> None:
    """Remove the tag NAME. Its commit stays until it is collected."""
    from cfsctl.ostree.part_tags import remove_part_tag  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.refs import remove_tag  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        if not remove_part_tag(repository, name):
            remove_tag(repository, name)
