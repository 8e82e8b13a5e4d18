"""``cfsctl ostree dump``."""

from __future__ import annotations

import click

import cfsctl
from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import xattr_names_option
from cfsctl.cli.output import write_bytes


@click.command("dump", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@xattr_names_option
@pass_session
def command(session: Session, source: str, ostree_xattr_names: str) -> None:
    """Print the tree of the commit SOURCE as a composefs dump.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    names = cfsctl.XattrNames(ostree_xattr_names)
    with session.open() as repository:
        write_bytes(repository.iter_commit_dump(source, xattr_names=names, progress=session.progress))
