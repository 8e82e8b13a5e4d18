"""``cfsctl stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import json_option
from cfsctl.cli.render import format_json, format_table

if TYPE_CHECKING:
    from cfsctl.repository.stats import Stats


@click.command("stats")
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """Print how large the repository is, how much of it each ref needs, and what gc would free.

    Exclusive is what nothing but this ref needs, so that gc would free it if the ref were gone.
    """
    from cfsctl.repository.stats import measure_repository  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        stats = measure_repository(repository)
    if as_json:
        click.echo(format_json(stats.as_dict()))
        return
    for problem in stats.problems:
        click.echo(f"Warning: {problem}", err=True)
    _show(stats)


def _show(stats: Stats) -> None:
    click.echo(f"objects: {stats.objects} ({stats.bytes} bytes, {stats.allocated_bytes} allocated)")
    click.echo(f"images:  {stats.images}")
    compression = ""
    if stats.stream_bytes and stats.stream_inline_bytes:
        saved = 100 * (stats.stream_inline_bytes - stats.stream_bytes) // stats.stream_inline_bytes
        compression = f", {stats.stream_inline_bytes} uncompressed: {saved} % saved"
    click.echo(f"streams: {stats.streams} ({stats.stream_bytes} bytes{compression})")
    click.echo(f"garbage: {stats.garbage_objects} objects ({stats.garbage_bytes} bytes)")
    if stats.quarantined:
        click.echo(f"quarantined: {stats.quarantined}")
    if stats.refs:
        header = ("Ref", "Objects", "Bytes", "Exclusive objects", "Exclusive bytes")
        rows = [
            (ref.name, str(ref.objects), str(ref.bytes), str(ref.exclusive_objects), str(ref.exclusive_bytes))
            for ref in stats.refs
        ]
        click.echo(format_table(header, rows))
