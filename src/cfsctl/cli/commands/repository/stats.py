"""``cfsctl stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document, print_line, tell_lines
from cfsctl.cli.render import format_table

if TYPE_CHECKING:
    from cfsctl.repository.gc.stats import Stats


@click.command("stats", cls=Command)
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """Print the size of the repository, how much of it each ref needs, and how much gc would free.

    Exclusive means needed by this ref alone: gc would free it if the ref were removed.
    """
    with session.open() as repository:
        stats = repository.stats()
    if as_json:
        print_document(stats.as_dict())
        return
    tell_lines(f"Warning: {problem}" for problem in stats.problems)
    _show(stats)


def _show(stats: Stats) -> None:
    print_line(f"objects: {stats.objects} ({stats.bytes} bytes, {stats.allocated_bytes} allocated)")
    print_line(f"images:  {stats.images}")
    compression = ""
    if stats.stream_bytes and stats.stream_inline_bytes:
        saved = 100 * (stats.stream_inline_bytes - stats.stream_bytes) // stats.stream_inline_bytes
        compression = f", {stats.stream_inline_bytes} uncompressed: {saved} % saved"
    print_line(f"streams: {stats.streams} ({stats.stream_bytes} bytes{compression})")
    print_line(f"garbage: {stats.garbage_objects} objects ({stats.garbage_bytes} bytes)")
    if stats.quarantined:
        print_line(f"quarantined: {stats.quarantined}")
    if stats.refs:
        header = ("Ref", "Objects", "Bytes", "Exclusive objects", "Exclusive bytes")
        rows = [
            (ref.name, str(ref.objects), str(ref.bytes), str(ref.exclusive_objects), str(ref.exclusive_bytes))
            for ref in stats.refs
        ]
        print_block(format_table(header, rows))
