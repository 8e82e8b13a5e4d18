"""``cfsctl import-image``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.digest import qualified

_CHUNK_BYTES = 1 << 20


@click.command("import-image")
@click.argument("reference")
@pass_session
def command(session: Session, reference: str) -> None:
    """Store the image on standard input and give it the ref REFERENCE.

    What is no composefs image is refused.
    """
    import sys  # noqa: PLC0415 - only for the buffer below

    with session.open_repository() as repository:
        chunks = iter(lambda: sys.stdin.buffer.read(_CHUNK_BYTES), b"")
        stored = repository.images.import_image(chunks, reference)
    click.echo(qualified(stored.object_id))
