"""``cfsctl ostree tag``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line


@click.command("tag", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@click.argument("name")
@json_option()
@pass_session
def command(session: Session, *, source: str, name: str, as_json: bool) -> None:
    """Tag the commit SOURCE with NAME; an existing tag is moved.

    SOURCE is a tag, a commit ID, or a unique prefix of one. What was demanded when a pull set the tag
    is demanded of the next pull still; a message says so if this commit does not meet it.
    """
    with session.open() as repository:
        commit = repository.tag(source, name, progress=session.progress)
    if as_json:
        print_document({"commit": commit.hex(), "tag": name})
    else:
        print_line(f"Tagged {source} as {name}")
