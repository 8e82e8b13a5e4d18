"""``cfsctl oci dump``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.oci_trees import tree_of, tree_options
from cfsctl.cli.output import write_bytes


@click.command("dump")
@tree_options
@pass_session
def command(session: Session, *, image: str, verity: str | None, bootable: bool, xattrs: str) -> None:
    """Print the tree of IMAGE as a composefs dump.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. If it is a digest, all
    layers are read and verified, unless VERITY is the ID of the config's stream.
    """
    from cfsctl.dumpfile import iter_dump  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        tree = tree_of(repository, image, verity, bootable=bootable, xattrs=xattrs)
    write_bytes(iter_dump(tree))
