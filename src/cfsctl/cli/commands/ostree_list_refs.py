"""``cfsctl ostree list-refs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.connecting import ConnectionArguments, connection_options, open_source
from cfsctl.cli.render import format_table

if TYPE_CHECKING:
    from typing import Unpack


@click.command("list-refs")
@click.argument("url")
@connection_options
def command(*, url: str, **arguments: Unpack[ConnectionArguments]) -> None:
    """List the refs that the summary of the repository at URL names."""
    source = open_source(url, arguments)
    try:
        refs = source.list_refs()
    finally:
        source.close()
    if refs:
        click.echo(format_table(["REF", "COMMIT"], [(ref.name, ref.checksum.hex()) for ref in refs]))
    else:
        click.echo("No refs found")
