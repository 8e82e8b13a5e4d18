"""``cfsctl gc``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

import cfsctl
from cfsctl.cli.completers import complete_roots
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.metrics import MEASURED, metrics_option
from cfsctl.cli.options.common import json_option, parse_duration
from cfsctl.cli.output import print_document, print_line, print_lines, tell_lines
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from cfsctl.library.maintenance import Remarks

GARBAGE = 1
"""Exit status of --why for an object that nothing keeps."""


def _parse_limit(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> cfsctl.DeleteLimit | None:

    if value is None:
        return None
    digits = value.removesuffix("%")
    is_percentage = digits != value
    try:
        number = float(digits) if is_percentage else int(digits)
    except ValueError:
        number = -1
    if not 0 <= number <= (100 if is_percentage else 1 << 62):
        raise click.BadParameter(f"{value!r} is neither a number of objects nor a percentage")
    return cfsctl.DeleteLimit(number, is_percentage)


@click.command("gc", cls=Command)
@click.option(
    "-r",
    "--root",
    "roots",
    metavar="NAME",
    multiple=True,
    shell_complete=complete_roots,
    help="Also keep this: an image ID, a stream's content identifier, or refs/<ref>. Repeatable.",
)
@click.option("-n", "--dry-run", is_flag=True, help="Only print what would be removed.")
@click.option(
    "--grace",
    metavar="DURATION",
    callback=parse_duration,
    help="Keep garbage that is younger than this: 90s, 15m, 2h, 7d. By default, remove all of it.",
)
@click.option(
    "--max-delete",
    "limit",
    metavar="N|N%",
    callback=_parse_limit,
    help="Remove nothing if more than this number or percentage of all objects is garbage.",
)
@click.option(
    "--why",
    metavar="OBJECT",
    help="Remove nothing; print the path from a root to this object. Exit with 1 if nothing keeps it.",
)
@json_option()
@pass_session
@metrics_option("gc")
def command(
    session: Session,
    *,
    roots: tuple[str, ...],
    dry_run: bool,
    grace: float | None,
    limit: cfsctl.DeleteLimit | None,
    why: str | None,
    as_json: bool,
) -> int:
    """Remove every object that is not reachable from a ref or a mount.

    Waits until no other process uses the repository. Unrecognized entries are reported and kept.
    """
    if why is not None:
        return _explain(session, why, roots, grace or 0, as_json=as_json)
    with session.open() as repository:
        result = repository.gc(
            extra_roots=roots,
            dry_run=dry_run,
            grace_s=grace or 0,
            max_delete=limit,
            lock_timeout_s=session.lock_timeout_s,
            progress=session.progress,
        )
        remarks = repository.remarks()
    MEASURED.add(
        objects_removed=result.objects_removed,
        removed_bytes=result.bytes_removed,
        objects_kept=result.objects_kept,
    )
    _show(result, remarks, as_json=as_json)
    return ExitCode.OK if result.is_complete else ExitCode.PARTIAL


def _show(result: cfsctl.GcResult, remarks: Remarks, *, as_json: bool) -> None:
    if as_json:
        print_document(result.as_dict() | remarks.document)
        return
    tell_lines(f"Warning: {problem}" for problem in result.problems)
    print_lines((*result.lines(), *remarks.lines))


def _explain(session: Session, text: str, roots: tuple[str, ...], grace: float, *, as_json: bool) -> int:
    with session.open() as repository:
        answer = repository.explain_object(text, extra_roots=roots, grace_s=grace)
    if as_json:
        print_document(answer.as_dict())
    elif answer.steps:
        print_lines([answer.steps[0], *(f"-> {step}" for step in answer.steps[1:])])
    else:
        print_line(f"kept: {answer.doubt}" if answer.doubt else "nothing keeps it")
    return ExitCode.OK if answer.is_kept else GARBAGE
