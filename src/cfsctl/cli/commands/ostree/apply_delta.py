"""``cfsctl ostree apply-delta``."""

from __future__ import annotations

import click

import cfsctl
from cfsctl.cli.completers import complete_files
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option, xattr_names_option
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options
from cfsctl.cli.output import print_line, print_lines


@click.command("apply-delta", cls=Command)
@click.argument("file", shell_complete=complete_files)
@xattr_names_option
@json_option()
@trust_options
@click.option("--verify-delta", is_flag=True, help="Require the same signatures on the delta itself.")
@pass_session
def command(
    session: Session,
    *,
    file: str,
    ostree_xattr_names: str,
    as_json: bool,
    verify_delta: bool,
    trusting: TrustArguments,
) -> None:
    """Apply the static delta FILE and store its target commit.

    FILE is a superblock with its parts inside or next to it, or the directory of a delta. The delta's source
    commit must be in the repository. No tag is set.
    """
    from cfsctl.cli.options.pull import commit_lines, result_document, show_documents

    trust = load_policy(trusting, delta=verify_delta)
    with session.open() as repository:
        result = repository.apply_delta(
            file, trust=trust, xattr_names=cfsctl.XattrNames(ostree_xattr_names), progress=session.progress
        )
    if as_json:
        show_documents([result_document(result)])
        return
    print_lines(commit_lines(result))
    print_line(f"objects {result.metadata_fetched} metadata + {result.files_fetched} files applied")
