"""``cfsctl ostree pull``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.http import ConnectionArguments, connection_options, open_source
from cfsctl.cli.options.pull import PullArguments, pick, pull_from, pull_options
from cfsctl.cli.options.trust import TrustArguments, find_remote, load_policy, trust_options

if TYPE_CHECKING:
    from typing import Unpack


class _Arguments(PullArguments, TrustArguments, ConnectionArguments):
    """All options that other commands have as well."""


@click.command("pull")
@click.argument("url", type=TEXT)
@pull_options
@trust_options
@connection_options
@click.option("--verify-summary", is_flag=True, help="Require the same signatures on the summary.")
@click.option("--no-delta", is_flag=True, help="Do not use static deltas.")
@pass_session
def command(
    session: Session, *, url: str, no_delta: bool, verify_summary: bool, **arguments: Unpack[_Arguments]
) -> int:
    """Pull each REF..., a ref or a commit ID, from the archive repository at URL.

    URL may also be the name of a configured remote, whose configuration then says what must be signed;
    mirrorlist=URL, a list of mirrors; or file:///PATH, a local repository, as for pull-local. Each ref
    becomes a tag of the same name. Static deltas are used if they cost less than fetching objects.
    """
    from cfsctl.ostree.delta.remote import RemoteDeltas  # noqa: PLC0415 - the same
    from cfsctl.ostree.sources.addresses import parse_file_url  # noqa: PLC0415 - keeps --help quick

    about_trust: TrustArguments = pick(TrustArguments.__annotations__, arguments)
    remote = None if "://" in url else find_remote(url, about_trust["remotes"])
    trust = load_policy(about_trust, remote=remote, summary=verify_summary)
    where = url if remote is None else remote.url
    pulling: PullArguments = pick(PullArguments.__annotations__, arguments)
    if (path := parse_file_url(where)) is not None:
        from cfsctl.ostree.sources.local import open_local  # noqa: PLC0415 - the same

        return pull_from(open_local(path, trust), session, None, trust, **pulling)
    source = open_source(
        where,
        pick(ConnectionArguments.__annotations__, arguments),
        trust=trust,
        configured=None if remote is None else remote.options,
        allow_older_summary=arguments["allow_downgrade"],
        reporter=session.progress,
    )
    deltas = None if no_delta else RemoteDeltas(source)
    return pull_from(source, session, deltas, trust, **pulling)
