"""``cfsctl compute-id``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import scan_options
from cfsctl.cli.scanning import ScanArguments, scan

if TYPE_CHECKING:
    from typing import Unpack


@click.command("compute-id")
@scan_options
@pass_session
def command(session: Session, **arguments: Unpack[ScanArguments]) -> None:
    """Print the ID of the image that create-image would make of the directory PATH.

    Nothing is stored. A repository named by --repo, --user or --system decides about hash and format.
    """
    from cfsctl.scan import compute_image_id  # noqa: PLC0415 - keeps --help quick

    algorithm, version = session.computation()
    filesystem = scan(session, algorithm, **arguments)
    click.echo(compute_image_id(filesystem, version, algorithm).hex())
