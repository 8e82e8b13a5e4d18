"""``cfsctl oci images``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.output import print_block, print_document
from cfsctl.cli.render import format_table

_SHORT_DIGEST = 12


@click.command("images", cls=Command)
@json_option()
@pass_session
def command(session: Session, *, as_json: bool) -> None:
    """List the tagged images, sorted by tag.

    Images that cannot be read are reported on standard error and skipped.
    """
    with session.open() as repository:
        found = list(repository.oci.images(progress=session.progress))
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
