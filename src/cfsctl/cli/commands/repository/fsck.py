"""``cfsctl fsck``."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import asks_for_json, json_option
from cfsctl.cli.options.trust import find_remote, remotes_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.errors import ExitCode, IntegrityError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cfsctl.progress import Reporter
    from cfsctl.repository import Repository
    from cfsctl.repository.repair.sources import RepairSource

_REPAIR_HINT = (
    "fsck --repair restores what can be rebuilt locally, and with --from SOURCE also what the source has; "
    "pulling a commit again repairs it"
)


@click.command("fsck")
@json_option(
    "Print a JSON document. The exit status is then 0 even if damage is found, except with --repair or if "
    "JSON was requested only by the environment."
)
@click.option("--metadata-only", is_flag=True, help="Do not read the content of objects.")
@click.option("--deep", is_flag=True, help="Read and decode everything, even what fs-verity protects.")
@click.option(
    "--repair",
    is_flag=True,
    help="Check everything, quarantine damaged objects, restore what a source has, and fix links.",
)
@click.option(
    "--from",
    "places",
    metavar="SOURCE",
    multiple=True,
    help="With --repair: source of lost content: another composefs repository, an OSTree repository (a path, "
    "a URL or the name of a configured remote), or any directory. Repeatable.",
)
@remotes_option
@pass_session
@click.pass_context
def command(
    context: click.Context,
    session: Session,
    *,
    as_json: bool,
    metadata_only: bool,
    deep: bool,
    repair: bool,
    places: tuple[str, ...],
    remotes: str | None,
) -> int:
    """Check that the repository is complete and undamaged.

    Objects that fs-verity protects, the contents of streams, and all of each image except the objects it
    refers to are read only with --deep. The files of a commit are compared with its checksum with --deep, or
    if that was not done when the commit was stored. With --repair, the exit status is 0 if nothing is wrong
    afterwards.
    """
    if places and not repair:
        raise click.UsageError("--from needs --repair")
    if repair and metadata_only:
        raise click.UsageError(
            "--repair reads the content of objects: it cannot be used with --metadata-only"
        )
    if repair:
        return _repair(session, places, remotes, as_json=as_json)
    from cfsctl.kinds.checks import content_checks  # noqa: PLC0415 - keeps --help quick
    from cfsctl.kinds.registry import find_remarks  # noqa: PLC0415 - the same
    from cfsctl.repository.check.fsck import check_repository  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        checks = None if metadata_only else content_checks(repository, is_deep=deep)
        report = check_repository(
            repository,
            metadata_only=metadata_only,
            deep=deep,
            content_checks=checks,
            reporter=session.progress,
        )
        remarks = find_remarks(repository)
    if as_json:
        print_document(report.as_dict() | remarks.document)
        # As the original has it; a variable that some script exported hides no damage from another.
        return ExitCode.OK if report.is_ok or asks_for_json(context) else ExitCode.CORRUPTION
    print_lines((*report.lines(), *remarks.lines))
    if not report.is_ok:
        raise IntegrityError("repository integrity check failed", hint=_REPAIR_HINT)
    return ExitCode.OK


def _repair(session: Session, places: tuple[str, ...], remotes: str | None, *, as_json: bool) -> int:
    from cfsctl.kinds.checks import content_checks  # noqa: PLC0415 - keeps --help quick
    from cfsctl.kinds.repair import list_repair_sources  # noqa: PLC0415 - the same
    from cfsctl.repository.repair.repair import repair_repository  # noqa: PLC0415 - the same

    with session.open_repository() as repository, contextlib.ExitStack() as stack:
        sources = [_open_source(stack, repository, place, remotes, session.progress) for place in places]
        report = repair_repository(
            repository,
            [*sources, *list_repair_sources(repository)],
            lock_timeout_s=session.lock_timeout_s,
            content_checks=content_checks(repository),
            reporter=session.progress,
        )
    if as_json:
        print_document(report.as_dict())
        return ExitCode.OK if report.after.is_ok else ExitCode.CORRUPTION
    print_lines(report.lines())
    if not report.after.is_ok:
        raise IntegrityError("some of the damage could not be repaired", hint="name more sources with --from")
    return ExitCode.OK


def _open_source(
    stack: contextlib.ExitStack, repository: Repository, place: str, remotes: str | None, reporter: Reporter
) -> RepairSource:
    """Open a source as what it is; a name is that of a directory if there is one, else that of a remote."""
    from cfsctl.kinds.repair import open_repair_source  # noqa: PLC0415 - only here

    if "://" in place:
        source = _open_url(repository, place, reporter)
    elif "/" in place or os.path.lexists(place):
        source = open_repair_source(repository, place, reporter)
    else:
        remote = find_remote(place, remotes)
        source = _open_url(repository, remote.url, reporter, remote.options)
    stack.callback(source.close)
    return source


def _open_url(
    repository: Repository, url: str, reporter: Reporter, configured: Mapping[str, str] | None = None
) -> RepairSource:
    """Open an OSTree repository on a server; it is asked for objects by their names, and each is verified."""
    from cfsctl.cli.options.http import DEFAULT_CONNECTION, open_source  # noqa: PLC0415 - only here
    from cfsctl.kinds.repair import open_repair_source  # noqa: PLC0415 - the same
    from cfsctl.ostree.exchange.repair import OstreeRepairSource  # noqa: PLC0415 - the same
    from cfsctl.ostree.sources.addresses import parse_file_url  # noqa: PLC0415 - the same

    if (path := parse_file_url(url)) is not None:
        return open_repair_source(repository, path, reporter)
    return OstreeRepairSource(
        repository, open_source(url, DEFAULT_CONNECTION, configured=configured), reporter
    )
