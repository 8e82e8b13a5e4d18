"""``cfsctl oci tag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.options.refs import show_change


@click.command("tag", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("name", type=TEXT)
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(
    session: Session, *, image: str, name: str, no_clobber: bool, keep: int | None, as_json: bool
) -> None:
    """Tag IMAGE with NAME; an existing tag is moved, and a message says so.

    IMAGE is the digest of a manifest or config, a unique prefix of one, or a tag.
    """
    with session.open() as repository:
        change = repository.oci.tag(image, name, replace=not no_clobber, keep=keep, progress=session.progress)
    show_change(change, "manifest", as_json=as_json, text=f"Tagged {change.new} as {name}")
