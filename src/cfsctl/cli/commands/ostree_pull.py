"""``cfsctl ostree pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.pulling import PullArguments, pull_from, pull_options

if TYPE_CHECKING:
    from typing import Unpack


@click.command("pull")
@click.argument("url")
@pull_options
@click.option("--no-delta", is_flag=True, help="Accepted for compatibility: objects are fetched one by one.")
@pass_session
def command(session: Session, *, url: str, no_delta: bool, **arguments: Unpack[PullArguments]) -> None:
    """Pull REF, a ref or a commit ID, from the archive repository at URL.

    A ref becomes a tag of the same name.
    """
    del no_delta  # there are no deltas to leave out
    from cfsctl.ostree.remote import RemoteSource  # noqa: PLC0415 - brings the HTTP client along

    pull_from(RemoteSource(url), session, **arguments)
