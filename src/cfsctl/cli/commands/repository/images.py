"""``cfsctl images``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.columns import SHORT_DIGITS, SIZES, Column, Kind, ListRequest, size_document, size_values
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.listing import show_list
from cfsctl.cli.options.common import asks_for_json, json_option
from cfsctl.cli.options.listing import list_options
from cfsctl.cli.output import print_block, print_document, print_line
from cfsctl.timestamps import format_timestamp

if TYPE_CHECKING:
    import cfsctl
    from cfsctl.library.results import ListedImage

_COLUMNS = (
    Column("name", "NAME", Kind.NAME),
    Column("id", "ID", Kind.ID),
    Column("date", "DATE", Kind.DATE, rank=4),
    *SIZES,
    Column("kept", "KEPT", Kind.NUMBER, rank=6),
    Column("timestamp", "TIMESTAMP", is_shown=False),
)


@click.command("images", cls=Command)
@json_option()
@list_options(_COLUMNS)
@pass_session
@click.pass_context
def command(context: click.Context, session: Session, *, as_json: bool, listing: ListRequest) -> None:
    """List the images that have a ref: name, ID, when the ref was set, and kept earlier images."""
    with session.open() as repository:
        if not as_json and listing.is_plain(has_whole_ids=True):
            _print_plain(repository.image_refs(), whole=listing.whole_ids)
            return
        images = repository.list_images(with_sizes=listing.with_sizes)
        hash_name = repository.algorithm.hash_name
    if as_json:
        documents = [_document(image, hash_name) for image in images]
        print_document({"images": documents}, is_original=asks_for_json(context))
        return
    rows = [
        {
            "name": image.name,
            "id": None if image.image_id is None else f"{hash_name}:{image.image_id.hex()}",
            "date": image.set_s,
            "timestamp": format_timestamp(image.set_s),
            "kept": image.kept or None,
            **size_values(image.sizes),
        }
        for image in images
    ]
    show_list(listing, _COLUMNS, rows, quiet_key="id", nothing="No images found")


def _print_plain(refs: list[cfsctl.Ref], *, whole: bool) -> None:
    """Print the table of the original."""
    from cfsctl.cli.render import format_table  # not for other tables

    rows = [(ref.name, (ref.entry or "") if whole else (ref.entry or "")[:SHORT_DIGITS]) for ref in refs]
    if rows:
        print_block(format_table(["NAME", "DIGEST"], rows))
    else:
        print_line("No images found")


def _document(image: ListedImage, hash_name: str) -> dict[str, object]:
    return {
        "name": image.name,
        "digest": "" if image.image_id is None else image.image_id.hex(),
        "image": None if image.image_id is None else f"{hash_name}:{image.image_id.hex()}",
        "timestamp": format_timestamp(image.set_s),
        "kept": image.kept,
        **size_document(image.sizes),
    }
