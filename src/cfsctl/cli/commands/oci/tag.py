"""``cfsctl oci tag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.output import print_document, print_line


@click.command("tag", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("name", type=TEXT)
@json_option()
@pass_session
def command(session: Session, *, image: str, name: str, as_json: bool) -> None:
    """Tag IMAGE with NAME; an existing tag is moved.

    IMAGE is the digest of a manifest or config, a unique prefix of one, or a tag.
    """
    with session.open() as repository:
        digest = repository.oci.tag(image, name)
    if as_json:
        print_document({"manifest": str(digest), "tag": name})
    else:
        print_line(f"Tagged {digest} as {name}")
