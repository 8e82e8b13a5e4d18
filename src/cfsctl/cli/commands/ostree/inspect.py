"""``cfsctl ostree inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_commits
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_document, print_lines
from cfsctl.progress import Message

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from cfsctl.digest import Checksum
    from cfsctl.ostree.objects import Commit
    from cfsctl.ostree.tree.composefs_digest import DigestCheck
    from cfsctl.ostree.trust.verdict import ValidSignature


@click.command("inspect")
@click.argument("source", shell_complete=complete_commits)
@click.option("--metadata", is_flag=True, help="Print the commit's metadata, one key=value per line.")
@json_option()
@pass_session
def command(session: Session, *, source: str, metadata: bool, as_json: bool) -> None:
    """Print the fields of the commit SOURCE.

    If it records a composefs digest of libostree, the digest is recomputed from the tree and compared.

    SOURCE is a tag, a commit ID, or a unique prefix of one.
    """
    from cfsctl.ostree.store.metadata_text import iter_metadata_lines  # noqa: PLC0415 - keeps --help quick
    from cfsctl.ostree.store.partial_commits import describe_partial, open_source  # noqa: PLC0415 - the same
    from cfsctl.ostree.tree.composefs_digest import check_composefs_digest  # noqa: PLC0415 - the same
    from cfsctl.ostree.trust.gate import read_record  # noqa: PLC0415 - the same

    with session.open_repository() as repository:
        stream = open_source(repository, source)
        verified = read_record(repository, stream)
        digest = None if metadata or stream.is_partial else check_composefs_digest(stream, repository.objects)
    if stream.is_partial:
        session.progress(Message(describe_partial(stream)))
    if as_json:
        document = _document(stream.checksum, stream.commit)
        document["signatures"] = [one.describe() for one in verified]
        document["partial"] = stream.is_partial
        document["composefs_digest"] = None if digest is None else digest.as_dict()
        print_document(document)
        return
    if metadata:
        print_lines(iter_metadata_lines(stream.commit.metadata))
        return
    print_lines(_lines(stream.checksum, stream.commit, verified, digest))


def _document(checksum: Checksum, commit: Commit) -> dict[str, object]:
    from cfsctl.ostree.store.metadata_text import render_value  # noqa: PLC0415 - keeps --help quick

    return {
        "commit": checksum.hex(),
        "parent": None if commit.parent is None else commit.parent.hex(),
        "timestamp": commit.timestamp_s,
        "tree": commit.root_dirtree.hex(),
        "dirmeta": commit.root_dirmeta.hex(),
        "subject": commit.subject,
        "body": commit.body,
        "metadata": {key: render_value(value) for key, value in commit.metadata},
    }


def _lines(
    checksum: Checksum, commit: Commit, verified: Iterable[ValidSignature], digest: DigestCheck | None
) -> Iterator[str]:
    yield f"commit  {checksum.hex()}"
    if commit.parent is not None:
        yield f"parent  {commit.parent.hex()}"
    yield f"date    {_format_time(commit.timestamp_s)}"
    yield f"tree    {commit.root_dirtree.hex()}"
    yield f"dirmeta {commit.root_dirmeta.hex()}"
    for one in verified:
        yield f"signed  {one.describe()}"
    if digest is not None:
        yield f"digest  {digest.describe()}"
    for text in (commit.subject, commit.body):
        if text:
            yield ""
            yield from text.split("\n")


def _format_time(seconds: int) -> str:
    """Return a time in UTC, or the number where the calendar has no such day."""
    from datetime import UTC, datetime  # noqa: PLC0415 - keeps --help quick

    try:
        return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (ValueError, OverflowError, OSError):
        return str(seconds)
