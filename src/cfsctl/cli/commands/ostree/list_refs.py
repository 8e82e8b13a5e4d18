"""``cfsctl ostree list-refs``."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import click

from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.options.http import ConnectionArguments, connection_options, open_source
from cfsctl.cli.output import print_block, print_document, print_line
from cfsctl.cli.render import format_table

if TYPE_CHECKING:
    from typing import Unpack


@click.command("list-refs")
@click.argument("url", type=TEXT)
@connection_options
@json_option()
def command(*, url: str, as_json: bool, **arguments: Unpack[ConnectionArguments]) -> None:
    """List the refs in the summary of the repository at URL.

    For a local repository, file:///PATH, its branches are listed.
    """
    from cfsctl.ostree.sources.addresses import parse_file_url  # noqa: PLC0415 - keeps --help quick

    path = parse_file_url(url)
    rows = _list_summary(url, arguments) if path is None else _list_branches(path)
    if as_json:
        print_document({"refs": [{"name": name, "commit": commit} for name, commit in rows]})
    elif rows:
        print_block(format_table(["REF", "COMMIT"], rows))
    else:
        print_line("No refs found")


def _list_summary(url: str, arguments: ConnectionArguments) -> list[tuple[str, str]]:
    with contextlib.closing(open_source(url, arguments)) as source:
        return [(ref.name, ref.checksum.hex()) for ref in source.list_refs()]


def _list_branches(path: str) -> list[tuple[str, str]]:
    from cfsctl.ostree.sources.local import LocalSource  # noqa: PLC0415 - few lists are of this machine

    with contextlib.closing(LocalSource(path)) as source:
        return [(name, checksum.hex()) for name, checksum in source.list_refs().items()]
