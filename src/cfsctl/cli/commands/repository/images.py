"""``cfsctl images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document, print_line
from cfsctl.cli.render import format_table

_SHORT_DIGEST = 12


@click.command("images", cls=Command)
@json_option()
@click.option("--no-trunc", is_flag=True, help="Print full digests.")
@pass_session
def command(session: Session, *, as_json: bool, no_trunc: bool) -> None:
    """List the images that have a ref."""
    with session.open() as repository:
        refs = [(ref.name, ref.entry or "") for ref in repository.image_refs()]
    if as_json:
        print_document({"images": [{"name": name, "digest": digest} for name, digest in refs]})
    elif not refs:
        print_line("No images found")
    else:
        rows = [(name, digest if no_trunc else digest[:_SHORT_DIGEST]) for name, digest in refs]
        print_block(format_table(["NAME", "DIGEST"], rows))
