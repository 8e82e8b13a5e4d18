"""``cfsctl image-objects``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, write_chunk
from cfsctl.digest import qualified


@click.command("image-objects", cls=Command)
@click.argument("name", shell_complete=complete_images)
@json_option()
@pass_session
def command(session: Session, *, name: str, as_json: bool) -> None:
    """List the objects that the image NAME refers to, sorted.

    NAME is an image ID, a ref, or refs/<ref>.
    """
    with session.open() as repository:
        objects = repository.image_objects(name)
    if as_json:
        print_document({"objects": [qualified(object_id) for object_id in objects]})
        return
    # In one write: by the line, printing took longer than reading the image.
    write_chunk("".join(f"{qualified(object_id)}\n" for object_id in objects).encode())
