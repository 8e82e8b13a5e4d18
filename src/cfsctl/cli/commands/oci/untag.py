"""``cfsctl oci untag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_oci_tags
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.output import print_document, print_line


@click.command("untag", cls=Command)
@click.argument("name", type=TEXT, shell_complete=complete_oci_tags)
@json_option()
@pass_session
def command(session: Session, *, name: str, as_json: bool) -> None:
    """Remove the tag NAME. Its image stays until garbage collection."""
    with session.open() as repository:
        repository.oci.untag(name)
    if as_json:
        print_document({"tag": name})
    else:
        print_line(f"Removed tag {name}")
