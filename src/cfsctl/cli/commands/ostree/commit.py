"""``cfsctl ostree commit``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, TypedDict

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.keeping import keep_option, no_clobber_option
from cfsctl.cli.output import print_document, print_line, tell
from cfsctl.cli.source_date import read_source_date
from cfsctl.digest import qualified
from cfsctl.errors import ExitCode

if TYPE_CHECKING:
    from typing import Unpack

_SHOWN = 20
"""Paths that could not be committed and are named."""

_MAX_ID = (1 << 32) - 1


class CommitArguments(TypedDict):
    """What the command takes besides the image and the ref."""

    subject: str
    body: str
    parent: str | None
    timestamp: int | None
    metadata: tuple[tuple[str, str], ...]
    owner_uid: int | None
    owner_gid: int | None
    no_xattrs: bool
    no_clobber: bool
    keep: int | None
    as_json: bool


if TYPE_CHECKING:
    _TimeType = click.ParamType[int]
    _PairType = click.ParamType[tuple[str, str]]
else:  # click has it generic only in newer releases than the oldest that we work with
    _TimeType = _PairType = click.ParamType


class _Timestamp(_TimeType):
    """Seconds since 1970 as ``@N``, or a date and time of ISO 8601, in UTC unless it says otherwise."""

    name = "time"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> int:
        from datetime import UTC, datetime

        try:
            if value.startswith("@"):
                seconds = int(value[1:])
            else:
                moment = datetime.fromisoformat(value)
                seconds = int((moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp())
        except (ValueError, OverflowError):
            seconds = -1
        if not 0 <= seconds < 1 << 64:
            self.fail(
                f"expected @SECONDS or a date such as 2024-01-31T12:00:00Z, found {value!r}", param, ctx
            )
        return seconds


class _KeyValue(_PairType):
    """``KEY=VALUE``."""

    name = "KEY=VALUE"

    def convert(
        self, value: str, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, str]:
        key, equals, text = TEXT.convert(value, param, ctx).partition("=")
        if not key or not equals:
            self.fail(f"expected KEY=VALUE, found {value!r}", param, ctx)
        return key, text


@click.command("commit", cls=Command)
@click.argument("image")
@click.option(
    "--reference", metavar="REF", type=TEXT, help="Bind the commit to this ref, and tag it with that name."
)
@click.option("--subject", "-s", type=TEXT, default="", help="One-line description of the commit.")
@click.option("--body", "-m", type=TEXT, default="", help="Full description of the commit.")
@click.option("--parent", metavar="SOURCE", help="Parent commit: a tag, a commit ID, or a unique prefix.")
@click.option(
    "--timestamp",
    type=_Timestamp(),
    help="Time of the commit, @SECONDS or ISO 8601; the default is $SOURCE_DATE_EPOCH, or now.",
)
@click.option(
    "--add-metadata-string",
    "metadata",
    type=_KeyValue(),
    multiple=True,
    help="Add a string to the commit's metadata. Repeatable.",
)
@click.option("--owner-uid", type=click.IntRange(0, _MAX_ID), help="Make this user own all files.")
@click.option("--owner-gid", type=click.IntRange(0, _MAX_ID), help="Make this group own all files.")
@click.option("--no-xattrs", is_flag=True, help="Omit extended attributes.")
@no_clobber_option
@keep_option
@json_option()
@pass_session
def command(
    session: Session, *, image: str, reference: str | None, **arguments: Unpack[CommitArguments]
) -> int:
    """Create an OSTree commit from the tree of IMAGE, an image ID or a ref.

    The commit is identical to the one that `ostree commit` makes of the same tree and messages. OSTree does
    not support devices, FIFOs and sockets: they are skipped and listed on standard error, and the exit
    status is 3.
    """
    timestamp_s = read_source_date(1 << 64) if arguments["timestamp"] is None else arguments["timestamp"]
    with session.open() as repository:
        result = repository.commit(
            image,
            reference,
            subject=arguments["subject"],
            body=arguments["body"],
            parent=arguments["parent"],
            timestamp_s=timestamp_s,
            metadata=arguments["metadata"],
            owner_uid=arguments["owner_uid"],
            owner_gid=arguments["owner_gid"],
            keep_xattrs=not arguments["no_xattrs"],
            replace=not arguments["no_clobber"],
            keep=arguments["keep"],
            progress=session.progress,
        )
    if arguments["as_json"]:
        document = {
            "commit": result.commit.hex(),
            "stream": qualified(result.stream_id),
            "tag": reference,
            "left_out": [os.fsencode(path).decode(errors="backslashreplace") for path in result.left_out],
        }
        print_document(document)
        return ExitCode.PARTIAL if result.left_out else ExitCode.OK
    print_line(f"commit  {result.commit.hex()}")
    print_line(f"verity  {result.stream_id.hex()}")
    if reference is not None:
        print_line(f"tagged  {reference}")
    return _report_left_out(result.left_out)


def _report_left_out(paths: list[bytes]) -> int:
    for path in paths[:_SHOWN]:
        tell(f"cfsctl: {os.fsdecode(path)}: skipped, OSTree only supports files, links and directories")
    if len(paths) > _SHOWN:
        tell(f"cfsctl: {len(paths) - _SHOWN} more skipped")
    return ExitCode.PARTIAL if paths else ExitCode.OK
