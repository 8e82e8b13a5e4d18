"""``cfsctl tag``, ``cfsctl image tag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.options.refs import show_change


@click.command("tag", cls=Command)
@click.argument("image", shell_complete=complete_images)
@click.argument("name")
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(
    session: Session, *, image: str, name: str, no_clobber: bool, keep: int | None, as_json: bool
) -> None:
    """Give IMAGE the ref NAME; an existing ref is moved, and a message says so.

    IMAGE is an image ID, a unique prefix of one, or a ref. For commits, there is `ostree tag`; for OCI
    images, `oci tag`.
    """
    with session.open() as repository:
        change = repository.tag_image(
            image, name, replace=not no_clobber, keep=keep, progress=session.progress
        )
    show_change(change, "image", key="name", as_json=as_json, text=f"Tagged {change.new} as {change.name}")
