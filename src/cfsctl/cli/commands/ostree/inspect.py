"""``cfsctl ostree inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cfsctl.library.results import CommitInfo


@click.command("inspect", cls=Command)
@click.argument("source", shell_complete=complete_commits)
@click.option("--metadata", is_flag=True, help="Print the commit's metadata, one key=value per line.")
@json_option()
@pass_session
def command(session: Session, *, source: str, metadata: bool, as_json: bool) -> None:
    """Print the fields of the commit SOURCE.

    If it records a composefs digest of libostree, the digest is recomputed from the tree and compared.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    with session.open() as repository:
        info = repository.commit_info(source, check_digest=not metadata, progress=session.progress)
    if as_json:
        print_document(_document(info))
    elif metadata:
        print_lines(f"{key}={value}" for key, value in info.metadata)
    else:
        print_lines(_lines(info))


def _document(info: CommitInfo) -> dict[str, object]:
    return {
        "commit": info.commit.hex(),
        "parent": None if info.parent is None else info.parent.hex(),
        "timestamp": format_timestamp(info.timestamp_s),
        "timestamp_s": info.timestamp_s,
        "tree": info.root_dirtree.hex(),
        "dirmeta": info.root_dirmeta.hex(),
        "subject": info.subject,
        "body": info.body,
        "metadata": dict(info.metadata_values),
        "signatures": [one.as_dict() for one in info.signatures],
        "partial": info.is_partial,
        "composefs_digest": None if info.composefs_digest is None else info.composefs_digest.as_dict(),
    }


def _lines(info: CommitInfo) -> Iterator[str]:
    yield f"commit  {info.commit.hex()}"
    if info.parent is not None:
        yield f"parent  {info.parent.hex()}"
    yield f"date    {_format_time(info.timestamp_s)}"
    yield f"tree    {info.root_dirtree.hex()}"
    yield f"dirmeta {info.root_dirmeta.hex()}"
    for one in info.signatures:
        yield f"signed  {one.describe()}"
    if info.composefs_digest is not None:
        yield f"digest  {info.composefs_digest.describe()}"
    for text in (info.subject, info.body):
        if text:
            yield ""
            yield from text.split("\n")


def _format_time(seconds: int) -> str:
    """Return a time in UTC, or the number where the calendar has no such day."""
    from datetime import UTC, datetime

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
