"""``cfsctl ostree list-refs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import Column, Kind, ListRequest
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.http import ConnectionArguments, connection_options
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_document, print_line, print_lines
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from cfsctl.library.results import RemoteRef

_COLUMNS = (
    Column("name", "REF", Kind.NAME),
    Column("commit", "COMMIT", Kind.ID),
    Column("date", "DATE", Kind.DATE, rank=4),
    Column("version", "VERSION", rank=3),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)


@click.command("list-refs", cls=Command)
@click.argument("url", type=TEXT)
@list_options(_COLUMNS)
@connection_options
@json_option()
def command(*, url: str, as_json: bool, connecting: ConnectionArguments, listing: ListRequest) -> None:
    """List the refs in the summary of the repository at URL, with the dates and versions that it has.

    For a local repository, file:///PATH, its branches are listed.
    """
    from cfsctl.cli.options.http import with_credentials
    from cfsctl.library.sources import Location, list_refs

    location = Location(url, is_url=True)
    if location.find_directory() is not None:
        refs = list_refs(location)
    else:
        address = Location(with_credentials(url, connecting.auth_file), is_url=True)
        refs = list_refs(address, connecting.source_options(url))
    if as_json:
        print_document({"refs": [_document(ref) for ref in refs]})
    elif listing.is_plain():
        _print_plain(refs)
    else:
        rows = [{**_document(ref), "date": ref.timestamp_s} for ref in refs]
        show_list(listing, _COLUMNS, rows, quiet_key="name", nothing="No refs found")


def _document(ref: RemoteRef) -> dict[str, str | int | float | None]:
    seconds = ref.timestamp_s
    return {
        "name": ref.name,
        "commit": ref.commit.hex(),
        "timestamp": None if seconds is None else format_timestamp(seconds),
        "version": ref.version,
    }


def _print_plain(refs: list[RemoteRef]) -> None:
    """Print the table of the original."""
    from cfsctl.cli.render import iter_table  # not for other tables

    if refs:
        print_lines(iter_table(["REF", "COMMIT"], lambda: ((ref.name, ref.commit.hex()) for ref in refs)))
    else:
        print_line("No refs found")
