"""``cfsctl ostree log``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.outcome import printable


@click.command("log")
@click.argument("source")
@pass_session
def command(session: Session, source: str) -> None:
    """Print the commit SOURCE and those before it, as `ostree log` does.

    SOURCE is a tag, a commit ID, or the unique beginning of one.
    """
    from cfsctl.ostree.history import format_entry, iter_history  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.partial import check_whole  # noqa: PLC0415 - the same
    from cfsctl.ostree.refs import resolve_source  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        check_whole(repository, source)
        for entry in iter_history(repository, resolve_source(repository, source)):
            for line in format_entry(entry):
                click.echo(printable(line))
