"""``cfsctl show``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.diff import RepositoryOpener
from cfsctl.cli.options.tree import tree_reading
from cfsctl.cli.output import write_bytes


@click.command("show", cls=Command)
@click.argument("source", shell_complete=complete_sources)
@click.argument("file")
@pass_session
def command(session: Session, *, source: str, file: str) -> None:
    """Print the content of FILE in the tree SOURCE, without mounting it.

    SOURCE is an image, an OSTree commit or a container image, named as for ls. Symbolic links in FILE are
    followed within the tree. Nothing is printed before all of the content is verified.
    """
    from cfsctl.library.contents import iter_file

    with RepositoryOpener(session) as opener:
        write_bytes(iter_file(source, file, reading=tree_reading(session, opener)))
