"""``cfsctl oci images``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import SHORT_DIGITS, SIZES, Column, Kind, ListRequest, size_document, size_values
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import asks_for_json, json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_block, print_document
from cfsctl.timestamps import format_timestamp, parse_timestamp

if TYPE_CHECKING:
    import cfsctl
    from cfsctl.library.oci.results import ListedOciImage

_COLUMNS = (
    Column("name", "NAME", Kind.NAME),
    Column("digest", "DIGEST", Kind.ID),
    Column("date", "CREATED", Kind.DATE, rank=4),
    Column("arch", "ARCH", rank=3),
    Column("layers", "LAYERS", Kind.NUMBER, rank=6),
    Column("refs", "REFS", Kind.NUMBER, rank=7),
    *SIZES,
    Column("kept", "KEPT", Kind.NUMBER, rank=8),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)


@click.command("images", cls=Command)
@json_option()
@list_options(_COLUMNS)
@pass_session
@click.pass_context
def command(context: click.Context, session: Session, *, as_json: bool, listing: ListRequest) -> None:
    """List the tagged images, sorted by tag.

    Images that cannot be read are reported on standard error and skipped. REFS are artifacts about an image.
    """
    with session.open() as repository:
        found = repository.oci.list_images(with_sizes=listing.with_sizes, progress=session.progress)
    if as_json:
        documents = [_document(image) for image in found]
        print_document({"images": documents}, is_original=asks_for_json(context))
    elif listing.is_plain():
        _print_plain(found)
    else:
        rows = [_row(image) for image in found]
        show_list(listing, _COLUMNS, rows, quiet_key="digest", nothing="No images found")


def _row(image: ListedOciImage) -> dict[str, str | int | float | None]:
    summary = image.summary
    created = None if summary.created is None else parse_timestamp(summary.created)
    return {
        "name": summary.name,
        "digest": str(summary.digest),
        "date": created,
        "timestamp": None if created is None else format_timestamp(created),
        "arch": _describe_kind(summary),
        "layers": summary.layer_count,
        "refs": summary.referrer_count,
        "kept": image.kept or None,
        **size_values(image.sizes),
    }


def _describe_kind(summary: cfsctl.OciImageSummary) -> str:
    if summary.platforms is not None:
        return "index"
    return summary.architecture or "artifact"


def _print_plain(found: list[ListedOciImage]) -> None:
    """Print the table of the original."""
    from cfsctl.cli.render import format_table  # not for other tables

    rows = [
        (
            summary.name,
            summary.digest.encoded[:SHORT_DIGITS],
            _describe_kind(summary),
            str(summary.layer_count),
            str(summary.referrer_count),
        )
        for summary in (image.summary for image in found)
    ]
    header = ["NAME", "DIGEST", "ARCH", "LAYERS", "REFS"]
    print_block(format_table(header, rows) if rows else "No images found")


def _document(image: ListedOciImage) -> dict[str, object]:
    platforms = image.summary.platforms
    return {
        **image.summary.as_dict(),
        "platforms": None if platforms is None else list(platforms),
        "kept": image.kept,
        **size_document(image.sizes),
    }
