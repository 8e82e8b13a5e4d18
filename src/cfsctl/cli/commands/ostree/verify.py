"""``cfsctl ostree verify``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options
from cfsctl.cli.output import print_document, print_line, print_lines

if TYPE_CHECKING:
    from typing import Unpack


@click.command("verify")
@click.argument("source")
@trust_options
@json_option()
@pass_session
def command(session: Session, *, source: str, as_json: bool, **arguments: Unpack[TrustArguments]) -> None:
    """Verify the stored signatures of the commit SOURCE, and that its files and image match it.

    SOURCE is a tag, a commit ID, or a unique prefix of one. Keys come from --gpg-key and --verify-key,
    or from the configuration of --remote.
    """
    from cfsctl.ostree.store.commit_proof import check_stored  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.store.refs import open_commit, resolve_source  # noqa: PLC0415 - the same
    from cfsctl.ostree.trust.gate import verify_stored  # noqa: PLC0415 - the same

    policy = load_policy(arguments)
    if policy is None or not policy.commits:
        raise click.UsageError("nothing to verify with: use --gpg-key, --verify-key or --remote")
    with session.open_repository() as repository:
        stream = open_commit(repository, resolve_source(repository, source))
        verified = verify_stored(repository, stream, policy)
        check_stored(repository, stream, session.progress)
    if as_json:
        document = {"commit": stream.checksum.hex(), "verified": [one._asdict() for one in verified]}
        print_document(document)
        return
    print_line(f"commit  {stream.checksum.hex()}")
    print_lines(f"signed  {one.describe()}" for one in verified)
