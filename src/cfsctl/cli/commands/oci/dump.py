"""``cfsctl oci dump``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.oci_trees import tree_options
from cfsctl.cli.output import write_bytes

if TYPE_CHECKING:
    from cfsctl.library.oci.options import OciTreeOptions


@click.command("dump", cls=Command)
@tree_options
@pass_session
def command(session: Session, *, image: str, options: OciTreeOptions) -> None:
    """Print the tree of IMAGE as a composefs dump.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. If it is a digest, all
    layers are read and verified, unless VERITY is the ID of the config's stream.
    """
    with session.open() as repository:
        dump = repository.oci.dump(image, options)
    write_bytes(dump)
