"""``cfsctl create-dumpfile``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.scan import ScanArguments, scan_options
from cfsctl.cli.output import write_bytes


@click.command("create-dumpfile", cls=Command)
@scan_options
@pass_session
def command(session: Session, scanning: ScanArguments) -> None:
    """Print the directory PATH as a composefs dump. Nothing is stored."""
    from cfsctl.library.trees import create_dumpfile

    algorithm = session.computation().algorithm
    options = scanning.options(session)
    write_bytes(create_dumpfile(scanning.path, options, algorithm=algorithm, progress=session.progress))
