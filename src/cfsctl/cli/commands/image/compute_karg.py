"""``cfsctl compute-karg``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option, scan_options
from cfsctl.cli.options.scan import ScanArguments, scan
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from typing import Unpack


@click.command("compute-karg")
@scan_options
@json_option()
@pass_session
def command(session: Session, *, as_json: bool, **arguments: Unpack[ScanArguments]) -> None:
    """Print the kernel argument that boots the image of the directory PATH.

    The image is the one that create-image --bootable would make; nothing is stored. Put the argument into
    the command line of a unified kernel image to seal it.
    """
    from cfsctl.boot.cmdline import format_argument  # noqa: PLC0415 - keeps --help quick
    from cfsctl.erofs.format import FormatVersion  # noqa: PLC0415 - the same
    from cfsctl.scan import compute_image_id  # noqa: PLC0415 - the same

    algorithm, version = session.computation()
    arguments["bootable"] = True
    image_id = compute_image_id(scan(session, algorithm, **arguments), version, algorithm)
    argument = format_argument(
        image_id, is_format_2=version is FormatVersion.V2, is_insecure=session.insecure
    )
    if as_json:
        print_document({"argument": argument, "image": qualified(image_id), "erofs_version": version.value})
    else:
        print_line(argument)
