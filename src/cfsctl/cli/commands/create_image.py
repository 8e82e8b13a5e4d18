"""``cfsctl create-image``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import json_option, scan_options
from cfsctl.cli.render import format_json
from cfsctl.cli.scanning import ScanArguments, scan_into
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from typing import Unpack


@click.command("create-image")
@scan_options
@click.argument("image_name", required=False)
@json_option()
@pass_session
def command(
    session: Session, *, image_name: str | None, as_json: bool, **arguments: Unpack[ScanArguments]
) -> None:
    """Store the directory PATH and make an image of it, with the ref IMAGE_NAME if given.

    Prints the image's ID.
    """
    from cfsctl.repository.names import check_ref  # noqa: PLC0415 - keeps --help quick
    from cfsctl.scan import build_images  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        if image_name is not None:
            check_ref(image_name, "image name")
        repository.check_writable()
        with scan_into(session, repository, **arguments) as filesystem:
            image_id = build_images(repository, filesystem, image_name)
    if as_json:
        click.echo(format_json({"image": qualified(image_id), "name": image_name}))
    else:
        click.echo(qualified(image_id))
