"""``cfsctl oci import-layer``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, json_option
from cfsctl.cli.output import print_document, print_line
from cfsctl.cli.streams import iter_stdin
from cfsctl.digest import qualified


@click.command("import-layer", cls=Command)
@click.argument("digest", type=TEXT)
@click.argument("name", type=TEXT, required=False)
@json_option()
@pass_session
def command(session: Session, *, digest: str, name: str | None, as_json: bool) -> None:
    """Store the uncompressed layer from standard input, whose digest must be DIGEST.

    If the layer is already stored, nothing is read. NAME becomes a ref of the layer's stream, which protects
    it from garbage collection.
    """
    from cfsctl.library.oci.options import OciDigestError, parse_digest

    try:
        parsed = parse_digest(digest.removeprefix("@"))
    except OciDigestError as error:
        raise click.BadParameter(str(error), param_hint="DIGEST") from error
    with session.open() as repository:
        stream_id = repository.oci.import_layer(parsed, iter_stdin(), name)
    if as_json:
        print_document({"layer": str(parsed), "stream": qualified(stream_id), "name": name})
    else:
        print_line(qualified(stream_id))
