"""``cfsctl ostree verify``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options
from cfsctl.cli.output import print_document, print_line, print_lines


@click.command("verify", cls=Command)
@click.argument("source")
@trust_options
@json_option()
@pass_session
def command(session: Session, *, source: str, as_json: bool, trusting: TrustArguments) -> None:
    """Verify the stored signatures of the commit SOURCE, and that its files and image match it.

    SOURCE is a tag, a commit ID, or a unique prefix of one. Keys come from --gpg-key and --verify-key,
    or from the configuration of --remote.
    """
    policy = load_policy(trusting)
    if policy is None or not policy.commits:
        raise click.UsageError("nothing to verify with: use --gpg-key, --verify-key or --remote")
    with session.open() as repository:
        commit, verified = repository.verify_commit(source, policy, progress=session.progress)
    if as_json:
        print_document({"commit": commit.hex(), "signatures": [one.as_dict() for one in verified]})
        return
    print_line(f"commit  {commit.hex()}")
    print_lines(f"signed  {one.describe()}" for one in verified)
