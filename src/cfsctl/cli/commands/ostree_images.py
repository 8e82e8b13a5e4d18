"""``cfsctl ostree images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.render import format_table


@click.command("images")
@pass_session
def command(session: Session) -> None:
    """List the tags and the commits they name."""
    from cfsctl.ostree.partial import list_parts  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.refs import list_tags  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        rows = [(tag.name, tag.commit.hex()) for tag in list_tags(repository)]
        rows += [(f"{part.name} (partial)", part.commit.hex()) for part in list_parts(repository)]
    click.echo(format_table(["NAME", "COMMIT"], rows) if rows else "No ostree commits found")
