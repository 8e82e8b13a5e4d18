"""``cfsctl ostree log``."""

from __future__ import annotations

import click

from cfsctl.cli.columns import Column, Kind, ListRequest
from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_document, print_lines
from cfsctl.timestamps import format_timestamp

_COLUMNS = (
    Column("commit", "COMMIT", Kind.ID),
    Column("date", "DATE", Kind.DATE),
    Column("version", "VERSION", rank=3),
    Column("subject", "SUBJECT", rank=7),
    Column("parent", "PARENT", Kind.ID, rank=8, is_shown=False),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)


@click.command("log", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@list_options(_COLUMNS)
@json_option()
@pass_session
def command(session: Session, *, source: str, as_json: bool, listing: ListRequest) -> None:
    """Print the commit SOURCE and its ancestors in the format of `ostree log`, with dates in UTC.

    With --format, --columns or -q there is a line for each stored commit. SOURCE is a tag, a commit ID, or a
    unique prefix of one.
    """
    from cfsctl.library.commit_log import entry_document, format_entry, version_of

    with session.open() as repository:
        entries = repository.history(source)
        if as_json:
            print_document({"commits": [entry_document(entry) for entry in entries]})
            return
        if not listing.is_list:
            for entry in entries:
                print_lines(format_entry(entry))
            return
        rows = [
            {
                "commit": checksum.hex(),
                "date": commit.timestamp_s,
                "timestamp": format_timestamp(commit.timestamp_s),
                "version": version_of(commit),
                "subject": commit.subject,
                "parent": None if commit.parent is None else commit.parent.hex(),
            }
            for checksum, commit in entries
            if commit is not None
        ]
    show_list(listing, _COLUMNS, rows, quiet_key="commit", nothing="")
