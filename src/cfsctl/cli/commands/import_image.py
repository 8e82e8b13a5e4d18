"""``cfsctl import-image``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.parameters import json_option
from cfsctl.cli.render import format_json
from cfsctl.digest import qualified

_CHUNK_BYTES = 1 << 20


@click.command("import-image")
@click.argument("reference")
@json_option()
@pass_session
def command(session: Session, *, reference: str, as_json: bool) -> None:
    """Store the image on standard input and give it the ref REFERENCE.

    What is no composefs image is refused.
    """
    import sys  # noqa: PLC0415 - only for the buffer below

    with session.open_repository() as repository:
        chunks = iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
        stored = repository.images.import_image(chunks, reference)
    image_id = qualified(stored.object_id)
    click.echo(format_json({"image": image_id, "name": reference}) if as_json else image_id)
