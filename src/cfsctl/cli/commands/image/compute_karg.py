"""``cfsctl compute-karg``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.scan import ScanArguments, scan_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified


@click.command("compute-karg", cls=Command)
@scan_options
@json_option()
@pass_session
def command(session: Session, *, as_json: bool, scanning: ScanArguments) -> None:
    """Print the kernel argument that boots the image of the directory PATH.

    The image is the one that create-image --bootable would make; nothing is stored. Put the argument into
    the command line of a unified kernel image to seal it.
    """
    from cfsctl.library.trees import compute_id, format_kernel_argument

    algorithm, version = session.computation()
    image_id = compute_id(
        scanning.path,
        scanning.options(session, bootable=True),
        algorithm=algorithm,
        erofs_version=version,
        progress=session.progress,
    )
    argument = format_kernel_argument(image_id, erofs_version=version, insecure=session.insecure)
    if as_json:
        print_document({"argument": argument, "image": qualified(image_id), "erofs_version": version.value})
    else:
        print_line(argument)
