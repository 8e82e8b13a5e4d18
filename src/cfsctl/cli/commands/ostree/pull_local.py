"""``cfsctl ostree pull-local``."""

from __future__ import annotations

import click

from cfsctl.cli.completers import complete_directories
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import SOURCE, Command, section
from cfsctl.cli.metrics import metrics_option
from cfsctl.cli.options.pull import PullRequest, pull_options, run_request
from cfsctl.cli.options.trust import TrustArguments, load_policy, trust_options, verify_summary_option
from cfsctl.errors import CfsError, ExitCode


class UrlForPathError(CfsError):
    """A URL where a directory was expected."""

    exit_code = ExitCode.USAGE


@click.command("pull-local", cls=Command)
@click.argument("path", shell_complete=complete_directories)
@pull_options
@trust_options
@verify_summary_option
@section(
    SOURCE,
    click.option("--delta", is_flag=True, help="Use the repository's static deltas, as pull does."),
)
@pass_session
@metrics_option("ostree pull-local")
def command(
    session: Session,
    *,
    path: str,
    request: PullRequest,
    trusting: TrustArguments,
    verify_summary: bool,
    delta: bool,
) -> int:
    """Pull each REF..., a ref or a commit ID, from the repository in the directory PATH.

    The repository may have any mode, and may have parent repositories. REF may also be REMOTE:NAME,
    COLLECTION:NAME, or a path such as remotes/REMOTE/NAME. Each ref becomes a tag of the same name.
    """
    from cfsctl.library.sources import Location, SourceOptions

    if "://" in path and not path.startswith("file:"):
        url = path.partition("?")[0]
        raise UrlForPathError(
            f"PATH: expected a directory, found the URL {url}", hint=f"use `cfsctl ostree pull {url} REF`"
        )
    trust = load_policy(trusting, summary=verify_summary)
    return run_request(session, request, Location(path, is_url=False), SourceOptions(use_deltas=delta), trust)
