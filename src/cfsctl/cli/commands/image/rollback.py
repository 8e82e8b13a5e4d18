"""``cfsctl image rollback``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_image_refs
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.refs import rollback_text, show_change, to_option


@click.command("rollback", cls=Command)
@click.argument("name", shell_complete=complete_image_refs)
@to_option
@json_option()
@pass_session
def command(session: Session, *, name: str, to: str | None, as_json: bool) -> None:
    """Move the ref NAME back to the image that it named before.

    Earlier images are kept by --keep of the commands that move refs. The current image is kept, too: a
    second rollback returns to it.
    """
    with session.open() as repository:
        change = repository.roll_back_image(name, to, progress=session.progress)
    show_change(change, "image", key="name", as_json=as_json, text=rollback_text(change))
