"""``cfsctl ostree dump``."""

from __future__ import annotations

import click

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
    from cfsctl.dumpfile import iter_dump  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.tree.xattr_names import XattrNames  # noqa: PLC0415 - the same

    with session.open() as repository:
        tree = repository.commit_tree(
            source, xattr_names=XattrNames(ostree_xattr_names), progress=session.progress
        )
    write_bytes(iter_dump(tree))
