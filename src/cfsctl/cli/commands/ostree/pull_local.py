"""``cfsctl ostree pull-local``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_directories
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.pull import PullArguments, pick, pull_from, pull_options
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options

if TYPE_CHECKING:
    from typing import Unpack


class _Arguments(PullArguments, TrustArguments):
    """All options that other commands have as well."""


@click.command("pull-local")
@click.argument("path", shell_complete=complete_directories)
@pull_options
@trust_options
@click.option("--delta", is_flag=True, help="Use the repository's static deltas, as pull does.")
@pass_session
def command(session: Session, *, path: str, delta: bool, **arguments: Unpack[_Arguments]) -> int:
    """Pull each REF..., a ref or a commit ID, from the repository in the directory PATH.

    The repository may have any mode, and may have parent repositories. REF may also be REMOTE:NAME,
    COLLECTION:NAME, or a path such as remotes/REMOTE/NAME. Each ref becomes a tag of the same name.
    """
    from cfsctl.ostree.delta.store import LocalDeltas  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.sources.local import open_local  # noqa: PLC0415 - the same

    trust = load_policy(pick(TrustArguments.__annotations__, arguments))
    source = open_local(path, trust)
    deltas = LocalDeltas(path) if delta else None
    return pull_from(source, session, deltas, trust, **pick(PullArguments.__annotations__, arguments))
