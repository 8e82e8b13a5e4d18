"""``cfsctl ostree log``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_lines


@click.command("log", cls=Command)
@click.argument("source")
@json_option()
@pass_session
def command(session: Session, *, source: str, as_json: bool) -> None:
    """Print the commit SOURCE and its ancestors, as `ostree log` does.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    from cfsctl.ostree.store.history import entry_document, format_entry  # noqa: PLC0415 - keeps --help quick

    with session.open() as repository:
        entries = repository.history(source)
        if as_json:
            print_document({"commits": [entry_document(entry) for entry in entries]})
            return
        for entry in entries:
            print_lines(format_entry(entry))
