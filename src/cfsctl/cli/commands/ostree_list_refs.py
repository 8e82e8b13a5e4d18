"""``cfsctl ostree list-refs``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.connecting import ConnectionArguments, connection_options, open_source
from cfsctl.cli.parameters import json_option
from cfsctl.cli.render import format_json, format_table

if TYPE_CHECKING:
    from typing import Unpack


@click.command("list-refs")
@click.argument("url")
@connection_options
@json_option()
def command(*, url: str, as_json: bool, **arguments: Unpack[ConnectionArguments]) -> None:
    """List the refs that the summary of the repository at URL names."""
    source = open_source(url, arguments)
    try:
        refs = source.list_refs()
    finally:
        source.close()
    rows = [(ref.name, ref.checksum.hex()) for ref in refs]
    if as_json:
        click.echo(format_json({"refs": [{"name": name, "commit": commit} for name, commit in rows]}))
    elif rows:
        click.echo(format_table(["REF", "COMMIT"], rows))
    else:
        click.echo("No refs found")
