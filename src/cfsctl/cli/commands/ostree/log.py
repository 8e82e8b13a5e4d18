"""``cfsctl ostree log``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_lines


@click.command("log")
@click.argument("source")
@json_option()
@pass_session
def command(session: Session, *, source: str, as_json: bool) -> None:
    """Print the commit SOURCE and its ancestors, as `ostree log` does.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    from cfsctl.ostree.store.history import entry_document, format_entry, iter_history  # noqa: PLC0415 - quick --help
    from cfsctl.ostree.store.partial_commits import check_whole  # noqa: PLC0415 - the same
    from cfsctl.ostree.store.refs import resolve_source  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        check_whole(repository, source)
        entries = iter_history(repository, resolve_source(repository, source))
        if as_json:
            print_document({"commits": [entry_document(entry) for entry in entries]})
            return
        for entry in entries:
            print_lines(format_entry(entry))
