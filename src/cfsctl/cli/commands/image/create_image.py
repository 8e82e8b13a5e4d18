"""``cfsctl create-image``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option, scan_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.cli.options.scan import ScanArguments


@click.command("create-image")
@scan_options
@click.argument("image_name", required=False)
@json_option()
@pass_session
def command(
    session: Session, *, image_name: str | None, as_json: bool, **arguments: Unpack[ScanArguments]
) -> None:
    """Store the directory PATH and create an image of it, with the ref IMAGE_NAME if given.

    The ID of the image is printed.
    """
    from cfsctl.scan import create_image  # noqa: PLC0415 - keeps --help quick
    from cfsctl.tree.transform import XattrFilter  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        image_id = create_image(
            repository,
            arguments["path"],
            image_name,
            xattr_filter=XattrFilter(arguments["xattrs"]),
            propagate_usr=not arguments["no_propagate_usr_to_root"],
            bootable=arguments["bootable"],
            use_cache=not arguments["no_cache"],
            verify_cache=arguments["verify_cache"],
            reporter=session.progress,
        )
    if as_json:
        print_document({"image": qualified(image_id), "name": image_name})
    else:
        print_line(qualified(image_id))
