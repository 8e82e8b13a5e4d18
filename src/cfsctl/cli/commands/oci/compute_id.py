"""``cfsctl oci compute-id``."""

from __future__ import annotations

import click

from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import json_option
from cfsctl.cli.options.oci_trees import tree_of, tree_options
from cfsctl.cli.output import print_document, print_line
from cfsctl.digest import qualified


@click.command("compute-id")
@tree_options
@json_option()
@pass_session
def command(
    session: Session, *, image: str, verity: str | None, bootable: bool, xattrs: str, as_json: bool
) -> None:
    """Print the ID of the file system image of IMAGE; nothing is stored.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. If it is a digest, all
    layers are read and verified, unless VERITY is the ID of the config's stream.
    """
    from cfsctl.oci.store.publish import build  # noqa: PLC0415 - keeps --help quick

    with session.open_repository() as repository:
        tree = tree_of(repository, image, verity, bootable=bootable, xattrs=xattrs)
        image_id, _ = build(tree, repository.erofs_versions[0], repository.algorithm)
    if as_json:
        print_document({"image": qualified(image_id)})
    else:
        print_line(image_id.hex())
