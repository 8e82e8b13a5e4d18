"""``cfsctl ostree export``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line


@click.command("export", cls=Command)
@click.argument("source")
@click.argument("path")
@click.option("--reference", metavar="REF", help="Branch to set to the commit once it is complete.")
@json_option()
@pass_session
def command(session: Session, *, source: str, path: str, reference: str | None, as_json: bool) -> None:
    """Write the commit SOURCE to the OSTree repository in the directory PATH.

    The mode of the repository may be archive, bare, bare-user or bare-user-only. Every object is verified as
    it is copied. SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    with session.open() as repository:
        checksum = repository.export(source, path, reference, progress=session.progress)
    if as_json:
        print_document({"commit": checksum.hex(), "repository": path, "reference": reference})
        return
    print_line(f"commit  {checksum.hex()}")
    if reference is not None:
        print_line(f"tagged  {reference}")
