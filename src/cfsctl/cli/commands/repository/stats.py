"""``cfsctl stats``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import Column, Kind, ListRequest
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_block, print_document, print_line, print_lines, tell_lines
from cfsctl.text import format_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import cfsctl


_COLUMNS = (
    Column("name", "NAME", Kind.NAME),
    Column("kind", "KIND", rank=2),
    Column("size", "SIZE", Kind.SIZE, rank=1),
    Column("own", "OWN", Kind.SIZE),
    Column("shared", "SHARED", Kind.SIZE, rank=3),
    Column("objects", "OBJECTS", Kind.NUMBER, rank=5),
    Column("own_objects", "OWN OBJECTS", Kind.NUMBER, rank=6),
    Column("missing", "MISSING", Kind.NUMBER, rank=4, is_shown=False),
    Column("ref", "REF", Kind.NAME, is_shown=False),
)


@click.command("stats", cls=Command)
@json_option()
@list_options(_COLUMNS)
@pass_session
def command(session: Session, *, as_json: bool, listing: ListRequest) -> None:
    """Print the size of the repository, how much of it each ref needs, and how much gc would free.

    OWN is what this ref needs alone: gc would free it if the ref were removed. SHARED is what
    other refs need, too.
    """
    with session.open() as repository:
        stats = repository.stats()
    if as_json:
        print_document(stats.as_dict())
        return
    tell_lines(f"Warning: {problem}" for problem in stats.problems)
    if listing.is_plain():
        _print_plain(stats)
        return
    if not listing.is_list:
        print_lines(_summary(stats, str if listing.exact else format_size))
        if not stats.refs:
            return
        print_line()
    rows = [_row(ref) for ref in stats.refs]
    show_list(listing, _COLUMNS, rows, quiet_key="name", nothing="No refs found")


def _row(ref: cfsctl.RefStats) -> dict[str, str | int | float | None]:
    kind, name = ref.kind_and_name()
    return {
        "ref": ref.name,
        "name": name,
        "kind": kind,
        "size": ref.bytes,
        "own": ref.exclusive_bytes,
        "shared": ref.bytes - ref.exclusive_bytes,
        "objects": ref.objects,
        "own_objects": ref.exclusive_objects,
        "missing": ref.missing,
    }


def _summary(stats: cfsctl.Stats, size: Callable[[int], str]) -> Iterator[str]:
    yield f"objects  {stats.objects}: {size(stats.bytes)}, {size(stats.allocated_bytes)} on the disk"
    yield f"images   {stats.images}"
    saved = _saved(stats)
    more = "" if saved is None else f", {size(stats.stream_inline_bytes)} uncompressed ({saved} % saved)"
    yield f"streams  {stats.streams}: {size(stats.stream_bytes)}{more}"
    yield f"garbage  {stats.garbage_objects}: {size(stats.garbage_bytes)} that gc would free"
    if stats.quarantined:
        yield f"quarantined {stats.quarantined}"


def _saved(stats: cfsctl.Stats) -> int | None:
    if not stats.stream_bytes or not stats.stream_inline_bytes:
        return None
    return 100 * (stats.stream_inline_bytes - stats.stream_bytes) // stats.stream_inline_bytes


def _print_plain(stats: cfsctl.Stats) -> None:
    from cfsctl.cli.render import format_table  # not for other tables

    print_line(f"objects: {stats.objects} ({stats.bytes} bytes, {stats.allocated_bytes} allocated)")
    print_line(f"images:  {stats.images}")
    saved = _saved(stats)
    compression = "" if saved is None else f", {stats.stream_inline_bytes} uncompressed: {saved} % saved"
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
