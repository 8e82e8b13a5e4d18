"""``cfsctl report``."""

from __future__ import annotations

import click

import cfsctl
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_line, tell_lines
from cfsctl.cli.pages import DATE_LIMIT, STDOUT, check_page_path, write_page
from cfsctl.cli.source_date import read_source_date
from cfsctl.text import format_size


@click.command("report", cls=Command)
@click.argument("file", type=click.Path(dir_okay=False))
@json_option()
@click.option(
    "--rows",
    type=click.IntRange(1, 10_000),
    default=50,
    metavar="N",
    help="Maximum number of rows in a table; the default is 50.",
)
@click.option(
    "--trees",
    type=click.IntRange(0, 10_000),
    default=32,
    metavar="N",
    help="Maximum number of trees to examine, those of the largest names first; the default is 32.",
)
@click.option(
    "--versions",
    type=click.IntRange(1, 1000),
    default=12,
    metavar="N",
    help="Maximum number of versions to list for each name; the default is 12.",
)
@click.option(
    "--comparisons",
    type=click.IntRange(0, 1000),
    default=16,
    metavar="N",
    help="Maximum number of pairs of versions to compare; the default is 16.",
)
@pass_session
def command(
    session: Session, *, file: str, as_json: bool, rows: int, trees: int, versions: int, comparisons: int
) -> None:
    """Write a page to FILE that shows what takes up space in the repository.

    The page shows directories as a treemap, how much space each name needs alone and shares with others, the
    largest objects, the versions of each name and what changed between them (files, and packages of dpkg and
    rpm), what gc would free, and what keeps the rest. It is one HTML file without scripts, and loads nothing
    from elsewhere.

    FILE is replaced as a whole; - is standard output. The page is dated $SOURCE_DATE_EPOCH if that is set:
    then the same repository gives the same page.
    """
    check_page_path(file)
    if as_json and file == STDOUT:
        raise click.UsageError("--json cannot be used with a page on standard output")
    made_s = read_source_date(DATE_LIMIT)
    limits = cfsctl.ReportLimits(rows=rows, trees=trees, comparisons=comparisons, versions=versions)
    with session.open() as repository:
        report = repository.report(limits, made_s=made_s, progress=session.progress)
    size = write_page(cfsctl.draw_report(report, rows=rows), file)
    if as_json:
        print_document(_document(report, file, size))
        return
    tell_lines(f"Warning: {problem}" for problem in report.problems)
    if file != STDOUT:
        print_line(f"{file}: {format_size(size)}")


def _document(report: cfsctl.StoreReport, file: str, size: int) -> dict[str, object]:
    stats = report.stats
    return {
        "path": file,
        "page_bytes": size,
        "objects": stats.objects,
        "bytes": stats.bytes,
        "garbage_objects": stats.garbage_objects,
        "garbage_bytes": stats.garbage_bytes,
        "refs": len(stats.refs),
        "trees_read": report.trees_read,
        "trees_left_out": report.trees_left_out,
        "histories": len(report.histories),
        "problems": list(report.problems),
    }
