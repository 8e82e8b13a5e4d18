"""``cfsctl prune``."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypedDict

import click

import cfsctl
from cfsctl.cli.columns import Column, Kind, ListRequest
from cfsctl.cli.completers import complete_prunable
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command, section
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import json_option, parse_duration
from cfsctl.cli.output import print_document, print_line, print_lines, tell_lines
from cfsctl.errors import ExitCode
from cfsctl.progress import Message

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.library.pruning import PruneOptions, PruneResult

_COLUMNS = (
    Column("action", "ACTION"),
    Column("kind", "KIND", rank=3),
    Column("name", "NAME", Kind.NAME),
    Column("id", "ID", Kind.ID, rank=2),
    Column("date", "DATE", Kind.DATE, rank=1),
    Column("why", "WHY"),
)


class RuleArguments(TypedDict):
    """What stays."""

    keep_last: int | None
    keep_within: float | None
    keep_hourly: int | None
    keep_daily: int | None
    keep_weekly: int | None
    keep_monthly: int | None
    keep_yearly: int | None
    keep_tags: tuple[str, ...]
    boot_directories: tuple[str, ...]


_COUNT = click.IntRange(0, 1 << 20)


@click.command("prune", cls=Command)
@click.argument("patterns", metavar="PATTERN...", nargs=-1, shell_complete=complete_prunable)
@section(
    "Retention",
    click.option("--keep-last", metavar="N", type=_COUNT, help="Keep the newest N of each series."),
    click.option(
        "--keep-within",
        metavar="SPAN",
        callback=parse_duration,
        help="Keep what is not older than this: 90s, 15m, 2h, 7d, 4w.",
    ),
    click.option("--keep-hourly", metavar="N", type=_COUNT, help="Keep the newest of each of N hours."),
    click.option("--keep-daily", metavar="N", type=_COUNT, help="Keep the newest of each of N days."),
    click.option("--keep-weekly", metavar="N", type=_COUNT, help="Keep the newest of each of N weeks."),
    click.option("--keep-monthly", metavar="N", type=_COUNT, help="Keep the newest of each of N months."),
    click.option("--keep-yearly", metavar="N", type=_COUNT, help="Keep the newest of each of N years."),
    click.option(
        "--keep-tag",
        "keep_tags",
        metavar="GLOB",
        multiple=True,
        help="Keep names that match, and all that is kept of them. Repeatable.",
    ),
    click.option(
        "--boot",
        "boot_directories",
        metavar="DIR",
        multiple=True,
        help="Keep what boot entries below this directory name. Repeatable; by default, /boot, /efi and "
        "/boot/efi.",
    ),
)
@click.option("-n", "--dry-run", is_flag=True, help="Only print what would be removed.")
@click.option("--gc", "collects", is_flag=True, help="Collect garbage afterwards, as `gc` does.")
@json_option()
@pass_session
def command(
    session: Session,
    *,
    patterns: tuple[str, ...],
    dry_run: bool,
    collects: bool,
    as_json: bool,
    **rules: Unpack[RuleArguments],
) -> int:
    """Remove old tags, image refs and earlier targets that no --keep option keeps; print the reasons.

    PATTERN... are names of tags of commits and OCI images or of image refs, or patterns with *, ? and [...];
    the prefixes commit:, oci: and image: limit a pattern to one kind. The tags that match a pattern are
    one series. The --keep options keep some of each series, and the newest always stays. Without PATTERN...,
    no tag is removed, only earlier targets that --keep of other commands has kept.

    Mounted and deployed images stay. The date of a commit or OCI image is the one recorded in it; that of
    an image is when its ref was set.
    """
    options = _make_options(patterns, rules)
    with session.open() as repository:
        result = repository.prune(
            options,
            dry_run=dry_run,
            gc=collects,
            lock_timeout_s=session.lock_timeout_s,
            progress=session.progress,
        )
    if as_json:
        print_document(result.as_dict())
    else:
        _show(session, result, has_patterns=bool(patterns))
    return ExitCode.OK if result.gc is None or result.gc.is_complete else ExitCode.PARTIAL


def _make_options(patterns: tuple[str, ...], rules: RuleArguments) -> PruneOptions:
    from cfsctl.library.pruning import PruneOptions

    made = cfsctl.RetentionRules(
        last=rules["keep_last"],
        within_s=rules["keep_within"],
        hourly=rules["keep_hourly"],
        daily=rules["keep_daily"],
        weekly=rules["keep_weekly"],
        monthly=rules["keep_monthly"],
        yearly=rules["keep_yearly"],
    )
    if made.is_empty and not rules["keep_tags"]:
        raise click.UsageError("say what is to be kept: --keep-last, --keep-within, --keep-daily and so on")
    return PruneOptions(
        rules=made,
        patterns=patterns,
        keep_tags=rules["keep_tags"],
        boot_directories=rules["boot_directories"] or None,
    )


def _show(session: Session, result: PruneResult, *, has_patterns: bool) -> None:
    tell_lines(f"Warning: {problem}" for problem in result.problems)
    rows = [
        {
            "action": "keep" if one.stays else "remove",
            "kind": one.kind,
            "name": one.key.name,
            "id": one.target,
            "date": one.time_s,
            "why": _explain(one.reasons, is_earlier=one.kept is not None),
        }
        for one in result.decisions
    ]
    if rows:
        show_list(ListRequest(), _COLUMNS, rows, quiet_key="id", nothing="")
    elif not has_patterns:
        session.progress(Message("no earlier targets are kept; to prune tags, name them or give a pattern"))
    count = len(result.removed)
    kept = len(result.decisions) - count
    if result.is_dry_run:
        print_line(f"Dry run: {count} would be removed, {kept} kept")
    else:
        print_line(f"{count} removed, {kept} kept")
    if result.gc is not None:
        tell_lines(f"Warning: {problem}" for problem in result.gc.problems)
        print_lines(result.gc.lines())


def _explain(reasons: list[str], *, is_earlier: bool) -> str:
    """Return why something stays or goes."""
    earlier = "earlier target, " if is_earlier else ""
    return earlier + (", ".join(reasons) if reasons else "no rule keeps it")
