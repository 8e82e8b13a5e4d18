"""``cfsctl ostree compute-id``."""

from __future__ import annotations

import click

import cfsctl
from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option, xattr_names_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified


@click.command("compute-id", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@xattr_names_option
@json_option()
@pass_session
def command(session: Session, *, source: str, ostree_xattr_names: str, as_json: bool) -> None:
    """Print the ID of the image of the commit SOURCE; create the image if it is missing.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    with session.open() as repository:
        image_id = repository.commit_image(
            source,
            erofs_version=session.format_version,
            xattr_names=cfsctl.XattrNames(ostree_xattr_names),
            progress=session.progress,
        )
    if as_json:
        print_document({"image": qualified(image_id)})
    else:
        print_line(image_id.hex())
