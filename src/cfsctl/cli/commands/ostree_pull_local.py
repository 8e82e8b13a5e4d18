"""``cfsctl ostree pull-local``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.pulling import PullArguments, pull_from, pull_options

if TYPE_CHECKING:
    from typing import Unpack


@click.command("pull-local")
@click.argument("path")
@pull_options
@click.option("--delta", is_flag=True, help="Use static deltas of the repository, as pull does.")
@pass_session
def command(session: Session, *, path: str, delta: bool, **arguments: Unpack[PullArguments]) -> None:
    """Pull REF, a ref or a commit ID, from the archive repository in the directory PATH.

    A ref becomes a tag of the same name.
    """
    from cfsctl.ostree.delta.store import LocalDeltas  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.local import LocalArchiveSource  # noqa: PLC0415 - the same

    pull_from(LocalArchiveSource(path), session, LocalDeltas(path) if delta else None, **arguments)
