"""``cfsctl create-dumpfile``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import scan_options
from cfsctl.cli.options.scan import ScanArguments, scan
from cfsctl.cli.output import write_bytes

if TYPE_CHECKING:
    from typing import Unpack


@click.command("create-dumpfile")
@scan_options
@pass_session
def command(session: Session, **arguments: Unpack[ScanArguments]) -> None:
    """Print the directory PATH as a composefs dump. Nothing is stored."""
    from cfsctl.dumpfile import iter_dump  # noqa: PLC0415 - keeps --help quick

    write_bytes(iter_dump(scan(session, session.computation().algorithm, **arguments)))
