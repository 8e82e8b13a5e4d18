"""``cfsctl fsck``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.metrics import MEASURED, metrics_option
from cfsctl.cli.options.common import asks_for_json, json_option
from cfsctl.cli.options.trust import remotes_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.errors import ExitCode, IntegrityError

_REPAIR_HINT = (
    "fsck --repair restores what can be rebuilt locally, and with --from SOURCE also what the source has; "
    "pulling a commit again repairs it"
)


@click.command("fsck", cls=Command)
@json_option(
    "Print a JSON document. The exit status is then 0 even if damage is found, except with --repair or if "
    "--json stands before the command or is set in the environment."
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
@metrics_option("fsck")
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
    with session.open() as repository:
        report = repository.fsck(metadata_only=metadata_only, deep=deep, progress=session.progress)
        remarks = repository.remarks()
    MEASURED.add(objects_checked=report.tally.checked.get("objects", 0), errors=len(report.findings))
    if as_json:
        document = report.as_dict() | remarks.document
        print_document(document, is_original=asks_for_json(context))
        # As the original has it; elsewhere JSON changes no exit status.
        return ExitCode.OK if report.is_ok or asks_for_json(context) else ExitCode.CORRUPTION
    print_lines((*report.lines(), *remarks.lines))
    if not report.is_ok:
        raise IntegrityError("repository integrity check failed", hint=_REPAIR_HINT)
    return ExitCode.OK


def _repair(session: Session, places: tuple[str, ...], remotes: str | None, *, as_json: bool) -> int:
    with session.open() as repository:
        report = repository.repair(
            places, remotes=remotes, lock_timeout_s=session.lock_timeout_s, progress=session.progress
        )
    after = report.after
    MEASURED.add(objects_checked=after.tally.checked.get("objects", 0), errors=len(after.findings))
    if as_json:
        print_document(report.as_dict())
        return ExitCode.OK if report.after.is_ok else ExitCode.CORRUPTION
    print_lines(report.lines())
    if not report.after.is_ok:
        raise IntegrityError("some of the damage could not be repaired", hint="name more sources with --from")
    return ExitCode.OK
