"""``cfsctl ostree images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document
from cfsctl.cli.render import format_table


@click.command("images", cls=Command)
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List all tags and their commits."""
    with session.open() as repository:
        found = [(name, commit.hex(), False) for name, commit in repository.tags().items()]
        found += [(name, commit.hex(), True) for name, commit in repository.partial_tags().items()]
    if as_json:
        keys = ("name", "commit", "partial")
        print_document({"images": [dict(zip(keys, row, strict=True)) for row in found]})
        return
    rows = [(f"{name} (partial)" if is_partial else name, commit) for name, commit, is_partial in found]
    print_block(format_table(["NAME", "COMMIT"], rows) if rows else "No ostree commits found")
