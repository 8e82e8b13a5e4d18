"""``cfsctl compute-id``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.scan import ScanArguments, scan_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified


@click.command("compute-id", cls=Command)
@scan_options
@json_option()
@pass_session
def command(session: Session, *, as_json: bool, scanning: ScanArguments) -> None:
    """Print the ID of the image that create-image would make of the directory PATH.

    Nothing is stored. If --repo, --user or --system names a repository, its hash and format are used.
    """
    from cfsctl.library.trees import compute_id

    algorithm, version = session.computation()
    image_id = compute_id(
        scanning.path,
        scanning.options(session),
        algorithm=algorithm,
        erofs_version=version,
        progress=session.progress,
    )
    if as_json:
        print_document({"image": qualified(image_id), "erofs_version": version.value})
    else:
        print_line(image_id.hex())
