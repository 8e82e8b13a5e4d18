"""``cfsctl ostree pull``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import SOURCE, Command, section
from cfsctl.cli.metrics import metrics_option
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.options.http import ConnectionArguments, connection_options
from cfsctl.cli.options.pull import PullRequest, pull_options, run_request
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options, verify_summary_option


@click.command("pull", cls=Command)
@click.argument("url", type=TEXT)
@pull_options
@trust_options
@connection_options
@verify_summary_option
@section(SOURCE, click.option("--no-delta", is_flag=True, help="Do not use static deltas."))
@pass_session
@metrics_option("ostree pull")
def command(
    session: Session,
    *,
    url: str,
    request: PullRequest,
    trusting: TrustArguments,
    connecting: ConnectionArguments,
    no_delta: bool,
    verify_summary: bool,
) -> int:
    """Pull each REF..., a ref or a commit ID, from the archive repository at URL.

    URL may also be the name of a configured remote, whose configuration then says what must be signed;
    mirrorlist=URL, a list of mirrors; or file:///PATH, a local repository, as for pull-local. Each ref
    becomes a tag of the same name. Static deltas are used if they cost less than fetching objects.
    """
    from cfsctl.cli.options.http import with_credentials
    from cfsctl.library.sources import Location, SourceOptions, find_remote

    remote = None if "://" in url else find_remote(url, trusting.remotes)
    trust = load_policy(trusting, remote=remote, summary=verify_summary)
    location = Location(url if remote is None else remote.url, is_url=True)
    if location.find_directory() is not None:
        return run_request(session, request, location, SourceOptions(use_deltas=False), trust)
    options = connecting.source_options(
        location.text,
        remote,
        allow_older_summary=request.options.allow_downgrade,
        use_deltas=not no_delta,
    )
    location = Location(with_credentials(location.text, connecting.auth_file), is_url=True)
    return run_request(session, request, location, options, trust)
