"""``cfsctl oci layer``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT, asks_for_json, json_option
from cfsctl.cli.output import is_terminal, print_document, write_bytes, write_chunk
from cfsctl.digest import qualified
from cfsctl.errors import CfsError, ExitCode

if TYPE_CHECKING:
    from cfsctl.library.oci.results import OciLayer


class TerminalError(CfsError):
    """Standard output is a terminal, which bytes would put out of order."""

    exit_code = ExitCode.USAGE


@click.command("layer", cls=Command)
@click.argument("diff_id", type=TEXT)
@click.option("--dumpfile", is_flag=True, help="Print the entries as composefs dump lines.")
@json_option("Print the size and the number of entries as a JSON document.")
@pass_session
@click.pass_context
def command(context: click.Context, session: Session, *, diff_id: str, dumpfile: bool, as_json: bool) -> None:
    """Write the layer DIFF_ID to standard output, as its original tar archive.

    DIFF_ID is the digest of the uncompressed layer, as in the config. With --dumpfile, entries are printed as
    in the layer: not merged, and with whiteouts as files.
    """
    if dumpfile and asks_for_json(context):
        raise click.UsageError("--dumpfile and --json cannot be used together")
    with session.open() as repository:
        layer = repository.oci.layer(diff_id.removeprefix("@"))
        if dumpfile:
            write_bytes(layer.iter_dump())
        elif as_json:
            is_original = asks_for_json(context)
            print_document(_document(layer, is_original=is_original), is_original=is_original)
        elif is_terminal():
            raise TerminalError(
                "Refusing to write tar data to terminal. Redirect to a file, pipe to tar, or use --json for"
                " metadata."
            )
        else:
            layer.read(write_chunk)


def _document(layer: OciLayer, *, is_original: bool) -> dict[str, object]:
    facts = layer.measure()
    return {
        "diffId": str(layer.digest),
        "verity": layer.stream_id.hex() if is_original else qualified(layer.stream_id),
        "size": facts.size,
        "entryCount": facts.entries,
        "splitstream": {
            "externalObjects": facts.external_objects,
            "externalSize": facts.external_size,
            "inlineSize": facts.size - facts.external_size,
        },
    }
