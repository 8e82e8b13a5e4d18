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
@click.option("--no-delta", is_flag=True, help="Fetch objects one by one, even if there is a static delta.")
@pass_session
def command(session: Session, *, url: str, no_delta: bool, **arguments: Unpack[PullArguments]) -> None:
    """Pull each REF..., a ref or a commit ID, from the archive repository at URL.

    A ref becomes a tag of the same name. Static deltas are used where they cost less than objects.
    """
    from cfsctl.ostree.delta.remote import RemoteDeltas  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.remote import RemoteSource  # noqa: PLC0415 - brings the HTTP client along

    source = RemoteSource(url)
    pull_from(source, session, None if no_delta else RemoteDeltas(source), **arguments)
