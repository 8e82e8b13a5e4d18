"""``cfsctl ostree tag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.options.refs import show_change


@click.command("tag", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@click.argument("name")
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(
    session: Session, *, source: str, name: str, no_clobber: bool, keep: int | None, as_json: bool
) -> None:
    """Tag the commit SOURCE with NAME; an existing tag is moved, and a message says so.

    SOURCE is a tag, a commit ID, or a unique prefix of one. The requirements of the pull
    that set the tag stay for the next pull; a message says so if this commit does not meet them.
    """
    with session.open() as repository:
        change = repository.tag(source, name, replace=not no_clobber, keep=keep, progress=session.progress)
    show_change(change, "commit", as_json=as_json, text=f"Tagged {source} as {name}")
