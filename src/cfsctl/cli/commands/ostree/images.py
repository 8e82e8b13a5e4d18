"""``cfsctl ostree images``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import SIZES, Column, Kind, ListRequest, size_document, size_values
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_block, print_document
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from cfsctl.library.results import ListedCommit

_COLUMNS = (
    Column("name", "NAME", Kind.NAME),
    Column("commit", "COMMIT", Kind.ID),
    Column("date", "DATE", Kind.DATE, rank=4),
    Column("version", "VERSION", rank=3),
    *SIZES,
    Column("kept", "KEPT", Kind.NUMBER, rank=6),
    Column("state", "STATE", rank=1),
    Column("subject", "SUBJECT", rank=7),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)
_DETAILS = {"date", "version", "subject", "timestamp"}


@click.command("images", cls=Command)
@json_option()
@list_options(_COLUMNS)
@pass_session
def command(session: Session, *, as_json: bool, listing: ListRequest) -> None:
    """List all tags and their commits: date and version of each, and kept earlier commits."""
    is_plain = not as_json and listing.is_plain()
    with session.open() as repository:
        commits = repository.list_commits(
            with_details=as_json or (not is_plain and listing.needs(_COLUMNS, _DETAILS)),
            with_sizes=listing.with_sizes,
            progress=session.progress,
        )
    if as_json:
        print_document({"images": [_document(commit) for commit in commits]})
    elif is_plain:
        _print_plain(commits)
    else:
        rows = [_row(commit) for commit in commits]
        show_list(listing, _COLUMNS, rows, quiet_key="commit", nothing="No ostree commits found")


def _row(commit: ListedCommit) -> dict[str, str | int | float | None]:
    seconds = commit.timestamp_s
    return {
        "name": commit.name,
        "commit": commit.commit.hex(),
        "date": seconds,
        "timestamp": None if seconds is None else format_timestamp(seconds),
        "version": commit.version,
        "subject": commit.subject,
        "kept": commit.kept or None,
        "state": "partial" if commit.is_partial else None,
        **size_values(commit.sizes),
    }


def _print_plain(commits: list[ListedCommit]) -> None:
    """Print the table of the original."""
    from cfsctl.cli.render import format_table  # not for other tables

    rows = [
        (f"{commit.name} (partial)" if commit.is_partial else commit.name, commit.commit.hex())
        for commit in commits
    ]
    print_block(format_table(["NAME", "COMMIT"], rows) if rows else "No ostree commits found")


def _document(commit: ListedCommit) -> dict[str, object]:
    seconds = commit.timestamp_s
    return {
        "name": commit.name,
        "commit": commit.commit.hex(),
        "partial": commit.is_partial,
        "timestamp": None if seconds is None else format_timestamp(seconds),
        "version": commit.version,
        "subject": commit.subject,
        "kept": commit.kept,
        **size_document(commit.sizes),
    }
