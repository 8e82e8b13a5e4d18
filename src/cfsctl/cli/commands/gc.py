"""``cfsctl gc``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.errors import ExitCode


@click.command("gc")
@click.option(
    "-r",
    "--root",
    "roots",
    metavar="NAME",
    multiple=True,
    help="Keep this as well: an image ID, a stream's content identifier, or refs/<ref>. Repeatable.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only say what would be removed.")
@pass_session
def command(session: Session, *, roots: tuple[str, ...], dry_run: bool) -> int:
    """Remove every object that no ref leads to.

    Waits until nobody else uses the repository. What cannot be understood is reported and kept.
    """
    from cfsctl.repository.gc import collect_garbage  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        result = collect_garbage(repository, extra_roots=roots, dry_run=dry_run)
    for problem in result.problems:
        click.echo(f"Warning: {problem}", err=True)
    for line in result.lines():
        click.echo(line)
    return ExitCode.OK if result.is_complete else ExitCode.PARTIAL
