"""``cfsctl oci compute-id``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.oci_trees import tree_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from cfsctl.library.oci.options import OciTreeOptions


@click.command("compute-id", cls=Command)
@tree_options
@json_option()
@pass_session
def command(session: Session, *, image: str, options: OciTreeOptions, as_json: bool) -> None:
    """Print the ID of the file system image of IMAGE; nothing is stored.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. If it is a digest, all
    layers are read and verified, unless VERITY is the ID of the config's stream.
    """
    with session.open() as repository:
        image_id = repository.oci.compute_id(image, options)
    if as_json:
        print_document({"image": qualified(image_id)})
    else:
        print_line(image_id.hex())
