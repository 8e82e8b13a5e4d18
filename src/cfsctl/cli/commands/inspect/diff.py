"""``cfsctl diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import click

import cfsctl
from cfsctl.cli.completers import complete_sources
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.diff import (
    DIFFERENT,
    SAME,
    ReadingArguments,
    RepositoryOpener,
    notes_only,
    reading_options,
    with_trouble_as_2,
)
from cfsctl.cli.output import print_document, print_line, print_lines
from cfsctl.cli.pages import DATE_LIMIT, check_page_path, write_page
from cfsctl.cli.source_date import read_source_date

if TYPE_CHECKING:
    from collections.abc import Iterator


ATTRIBUTES = ("type", "mode", "owner", "mtime", "xattr", "content", "storage", "target", "device", "link")


@click.command("diff", cls=Command)
@click.argument("a", shell_complete=complete_sources)
@click.argument("b", shell_complete=complete_sources)
@json_option()
@click.option("-q", "--brief", is_flag=True, help="Print only whether the trees differ.")
@click.option(
    "--ignore", multiple=True, type=click.Choice(ATTRIBUTES), help="Ignore this attribute. Repeatable."
)
@click.option(
    "--html",
    "page",
    metavar="FILE",
    type=click.Path(dir_okay=False),
    help="Write a page to FILE that shows the differences; - is standard output.",
)
@click.option(
    "--rows",
    type=click.IntRange(1, 100_000),
    metavar="N",
    help="With --html, the maximum number of rows in a table; the default is 200.",
)
@reading_options
@pass_session
def command(
    session: Session,
    *,
    a: str,
    b: str,
    as_json: bool,
    brief: bool,
    ignore: tuple[str, ...],
    page: str | None,
    rows: int | None,
    reading: ReadingArguments,
) -> int:
    """Compare the trees A and B: what was added, removed or changed, and for each change the attribute.

    A and B can be directories, images (file, ref or ID), dumps (file, or dump:- for standard input),
    OSTree commits (tag, ID, or a unique prefix of one) or container images (tag, digest, or a unique prefix
    of one). The prefixes dir:, image:, dump:, commit: and oci: say which is meant. Directories and container
    images are read as create-image reads directories.

    The page of --html shows the directories and files that gained or lost the most bytes, and the packages of
    dpkg and rpm that changed. It is one file without scripts, and loads nothing from elsewhere.

    The exit status is 0 if the trees are the same, 1 if they differ, and 2 on errors.
    """
    if rows is not None and page is None:
        raise click.UsageError("--rows is for --html")
    if page is not None:
        if as_json or brief:
            raise click.UsageError("--html cannot be used with --json or --brief")
        return _write_page(session, (a, b), ignore, reading, page, rows or _ROWS)
    with RepositoryOpener(session) as opener:
        return with_trouble_as_2(
            lambda: _compare(opener, session, (a, b), ignore, reading, as_json=as_json, brief=brief)
        )


def _compare(
    opener: RepositoryOpener,
    session: Session,
    names: tuple[str, str],
    ignore: tuple[str, ...],
    reading: ReadingArguments,
    *,
    as_json: bool,
    brief: bool,
) -> int:
    from cfsctl.library.comparison import diff

    differences = diff(
        *names,
        open_repository=opener,
        ignore={cfsctl.Attribute(name) for name in ignore},
        options=reading.options(),
        algorithm=session.algorithm,
        progress=notes_only(session),
    )
    if brief:
        return _print_brief(differences, names)
    return _print_json(differences) if as_json else _print_text(differences)


_ROWS: Final = 200


def _write_page(
    session: Session,
    names: tuple[str, str],
    ignore: tuple[str, ...],
    reading: ReadingArguments,
    page: str,
    rows: int,
) -> int:
    """Write the differences as a page; the exit status is as without."""
    check_page_path(page)
    made_s = read_source_date(DATE_LIMIT)

    def write() -> int:
        report = cfsctl.report_diff(
            *names,
            rows=rows,
            open_repository=opener,
            ignore={cfsctl.Attribute(name) for name in ignore},
            options=reading.options(),
            algorithm=session.algorithm,
            made_s=made_s,
            progress=notes_only(session),
        )
        write_page(cfsctl.draw_report(report), page)
        return DIFFERENT if report.changes.tally.total else SAME

    with RepositoryOpener(session) as opener:
        return with_trouble_as_2(write)


def _print_text(differences: Iterator[cfsctl.Difference]) -> int:
    from cfsctl.library.comparison import iter_text

    status = SAME

    def lines() -> Iterator[str]:
        nonlocal status
        for line in iter_text(differences):
            status = DIFFERENT
            yield line

    print_lines(lines())
    return status


def _print_json(differences: Iterator[cfsctl.Difference]) -> int:
    from cfsctl.library.comparison import to_document

    document = to_document(differences)
    print_document(document)
    return SAME if document["same"] else DIFFERENT


def _print_brief(differences: Iterator[cfsctl.Difference], names: tuple[str, str]) -> int:
    if next(differences, None) is None:
        return SAME
    print_line(f"{names[0]} and {names[1]} are different")
    return DIFFERENT
