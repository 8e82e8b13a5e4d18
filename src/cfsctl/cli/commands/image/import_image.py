"""``cfsctl import-image``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.cli.streams import iter_stdin
from cfsctl.digest import qualified


@click.command("import-image", cls=Command)
@click.argument("reference")
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(session: Session, *, reference: str, no_clobber: bool, keep: int | None, as_json: bool) -> None:
    """Store the image from standard input and give it the ref REFERENCE.

    Input that is not a composefs image is refused.
    """
    with session.open() as repository:
        image_id = qualified(
            repository.import_image(
                iter_stdin(), reference, replace=not no_clobber, keep=keep, progress=session.progress
            )
        )
    if as_json:
        print_document({"image": image_id, "name": reference})
    else:
        print_line(image_id)
