"""``cfsctl fsck``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import json_option
from cfsctl.cli.partial_commits import find_partial_commits, partial_json, partial_lines
from cfsctl.cli.render import format_json
from cfsctl.errors import ExitCode, IntegrityError

if TYPE_CHECKING:
    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.repair_sources import RepairSource


@click.command("fsck")
@json_option("Print a JSON document; without --repair the exit status is then 0 whatever is found.")
@click.option("--metadata-only", is_flag=True, help="Leave the content of objects alone.")
@click.option("--deep", is_flag=True, help="Read and decode everything, also what the kernel vouches for.")
@click.option(
    "--repair",
    is_flag=True,
    help="Check in depth, put damaged objects into quarantine, restore what a source has, set links right.",
)
@click.option(
    "--from",
    "places",
    metavar="SOURCE",
    multiple=True,
    help="With --repair: where to look for objects: another composefs repository, an OSTree repository, also "
    "by its URL, or any directory. Repeatable.",
)
@pass_session
def command(
    session: Session,
    *,
    as_json: bool,
    metadata_only: bool,
    deep: bool,
    repair: bool,
    places: tuple[str, ...],
) -> int:
    """Check that everything in the repository is there and is what its name says.

    With --repair the exit status is 0 if nothing is wrong afterwards.
    """
    if places and not repair:
        raise click.UsageError("--from needs --repair")
    if repair and metadata_only:
        raise click.UsageError("--repair reads the content of objects: it excludes --metadata-only")
    if repair:
        return _repair(session, places, as_json=as_json)
    from cfsctl.ostree.verify import commit_checks  # noqa: PLC0415 - keeps --help quick
    from cfsctl.repository.fsck import check_repository  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        checks = commit_checks(repository) if deep else None
        report = check_repository(
            repository,
            metadata_only=metadata_only,
            deep=deep,
            content_checks=checks,
            reporter=session.progress,
        )
        parts = find_partial_commits(repository)
    if as_json:
        click.echo(format_json(report.as_dict() | partial_json(parts)))
        return ExitCode.OK
    for line in (*report.lines(), *partial_lines(parts)):
        click.echo(line)
    if not report.is_ok:
        raise IntegrityError("repository integrity check failed")
    return ExitCode.OK


def _repair(session: Session, places: tuple[str, ...], *, as_json: bool) -> int:
    from cfsctl.ostree.verify import commit_checks  # noqa: PLC0415 - keeps --help quick
    from cfsctl.repository.repair import repair_repository  # noqa: PLC0415 - the same

    with session.open_repository() as repository, contextlib.ExitStack() as stack:
        report = repair_repository(
            repository,
            [_open_source(stack, repository, place, session.progress) for place in places],
            lock_timeout_s=session.lock_timeout_s,
            content_checks=commit_checks(repository),
            reporter=session.progress,
        )
    if as_json:
        click.echo(format_json(report.as_dict()))
        return ExitCode.OK if report.after.is_ok else ExitCode.CORRUPTION
    for line in report.lines():
        click.echo(line)
    if not report.after.is_ok:
        raise IntegrityError("some of the damage could not be repaired", hint="name more sources with --from")
    return ExitCode.OK


def _open_source(
    stack: contextlib.ExitStack, repository: Repository, place: str, reporter: Reporter
) -> RepairSource:
    """Open a source as what it is: a repository of either kind, or just a directory."""
    if "://" in place:
        return _open_remote(stack, repository, place, reporter)
    from cfsctl.ostree.local import LocalSource  # noqa: PLC0415 - only here
    from cfsctl.ostree.local_repository import NotAnOstreeRepositoryError  # noqa: PLC0415 - the same
    from cfsctl.ostree.verify import OstreeRepairSource  # noqa: PLC0415 - the same
    from cfsctl.repository import NotARepositoryError, read_config  # noqa: PLC0415 - the same
    from cfsctl.repository.repair_sources import RepositorySource, TreeSource  # noqa: PLC0415 - the same

    source: RepairSource
    try:
        is_alike = read_config(place, may_infer=False).algorithm is repository.algorithm
    except NotARepositoryError:
        try:
            source = OstreeRepairSource(repository, LocalSource(place))
        except NotAnOstreeRepositoryError:
            source = TreeSource(place)
    else:
        source = RepositorySource(place, repository.objects) if is_alike else TreeSource(place)
    stack.callback(source.close)
    return source


def _open_remote(
    stack: contextlib.ExitStack, repository: Repository, url: str, reporter: Reporter
) -> RepairSource:
    """Open an OSTree repository on a server; it is asked for objects by their names, and each is verified."""
    from cfsctl.cli.connecting import DEFAULT_CONNECTION, open_source  # noqa: PLC0415 - only here
    from cfsctl.ostree.verify import OstreeRepairSource  # noqa: PLC0415 - the same

    source = OstreeRepairSource(repository, open_source(url, DEFAULT_CONNECTION), reporter)
    stack.callback(source.close)
    return source
