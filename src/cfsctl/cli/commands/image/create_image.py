"""``cfsctl create-image``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.options.scan import ScanArguments, scan_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified


@click.command("create-image", cls=Command)
@scan_options
@click.argument("image_name", required=False)
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image_name: str | None,
    no_clobber: bool,
    keep: int | None,
    as_json: bool,
    scanning: ScanArguments,
) -> None:
    """Store the directory PATH and create an image of it, with the ref IMAGE_NAME if given.

    The ID of the image is printed.
    """
    with session.open() as repository:
        image_id = repository.create_image(
            scanning.path,
            image_name,
            as_root=not scanning.no_propagate_usr_to_root,
            bootable=scanning.bootable,
            xattrs=scanning.xattr_filter,
            use_cache=not scanning.no_cache,
            verify_cache=scanning.verify_cache,
            replace=not no_clobber,
            keep=keep,
            progress=session.progress,
        )
    if as_json:
        print_document({"image": qualified(image_id), "name": image_name})
    else:
        print_line(qualified(image_id))
