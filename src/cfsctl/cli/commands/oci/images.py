"""``cfsctl oci images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document
from cfsctl.cli.render import format_table
from cfsctl.progress import Message

_SHORT_DIGEST = 12


@click.command("images")
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the tagged images, sorted by tag.

    Images that cannot be read are reported on standard error and skipped.
    """
    from cfsctl.oci.store.listing import Unreadable, iter_images  # noqa: PLC0415 - keeps --help quick

    found = []
    with session.open_repository() as repository:
        for image in iter_images(repository):
            if isinstance(image, Unreadable):
                session.progress(Message(f"{image.name}: skipped: {image.error}"))
            else:
                found.append(image)
    if as_json:
        print_document({"images": [image.as_dict() for image in found]})
    elif not found:
        print_block("No images found")
    else:
        rows = [
            (
                image.name,
                image.digest.encoded[:_SHORT_DIGEST],
                image.architecture or "artifact",
                str(image.layer_count),
                str(image.referrer_count),
            )
            for image in found
        ]
        print_block(format_table(["NAME", "DIGEST", "ARCH", "LAYERS", "REFS"], rows))
