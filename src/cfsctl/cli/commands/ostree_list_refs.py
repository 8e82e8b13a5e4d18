"""``cfsctl ostree list-refs``."""

from __future__ import annotations

import click

from cfsctl.cli.render import format_table


@click.command("list-refs")
@click.argument("url")
def command(url: str) -> None:
    """List the refs that the summary of the repository at URL names."""
    from cfsctl.ostree.remote import RemoteSource  # noqa: PLC0415 - brings the HTTP client along

    source = RemoteSource(url)
    try:
        refs = source.list_refs()
    finally:
        source.close()
    if refs:
        click.echo(format_table(["REF", "COMMIT"], [(ref.name, ref.checksum.hex()) for ref in refs]))
    else:
        click.echo("No refs found")
