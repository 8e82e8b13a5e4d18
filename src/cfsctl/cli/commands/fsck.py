"""``cfsctl fsck``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import json_option
from cfsctl.cli.partial_commits import find_partial_commits, partial_json, partial_lines
from cfsctl.cli.render import format_json
from cfsctl.errors import IntegrityError


@click.command("fsck")
@json_option("Print a JSON document; the exit status is then 0.")
@click.option("--metadata-only", is_flag=True, help="Leave the content of objects alone.")
@click.option("--deep", is_flag=True, help="Read and decode everything, also what the kernel vouches for.")
@pass_session
def command(session: Session, *, as_json: bool, metadata_only: bool, deep: bool) -> None:
    """Check that everything in the repository is there and is what its name says."""
    from cfsctl.repository.fsck import check_repository  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        report = check_repository(repository, metadata_only=metadata_only, deep=deep)
        parts = find_partial_commits(repository)
    if as_json:
        click.echo(format_json(report.as_dict() | partial_json(parts)))
        return
    for line in (*report.lines(), *partial_lines(parts)):
        click.echo(line)
    if not report.is_ok:
        raise IntegrityError("repository integrity check failed")
