"""``cfsctl oci inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.output import print_document, write_bytes
from cfsctl.digest import qualified

if TYPE_CHECKING:
    from cfsctl.library.oci.results import OciIndexInspection


@click.command("inspect", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.option("--manifest", "only_manifest", is_flag=True, help="Print the manifest or index, byte for byte.")
@click.option("--config", "only_config", is_flag=True, help="Print the config, byte for byte.")
@pass_session
def command(session: Session, *, image: str, only_manifest: bool, only_config: bool) -> None:
    """Print the manifest and config of IMAGE, and the images that were made from it.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one. The output is always JSON,
    in the form of composefs-rs unless --json stands before the command. If IMAGE is an index, the index is
    printed, with the digests and platforms of its images.
    """
    if only_manifest and only_config:
        raise click.UsageError("--manifest and --config cannot be used together")
    with session.open() as repository:
        index = repository.oci.find_index(image)
        if index is not None:
            _show_index(repository.oci.inspect_index(index), session, only_manifest, only_config)
            return
        found = repository.oci.inspect(image)
    if only_manifest or only_config:
        write_bytes((found.manifest if only_manifest else found.config, b"\n"))
        return
    document = found.as_dict()
    if session.as_json:
        document |= {
            "composefs_erofs": None if found.image is None else qualified(found.image),
            "composefs_boot_erofs": None if found.boot_image is None else qualified(found.boot_image),
        }
    print_document(document, is_original=not session.as_json)


def _show_index(
    found: OciIndexInspection,
    session: Session,
    only_manifest: bool,  # noqa: FBT001 - one call
    only_config: bool,  # noqa: FBT001 - the same
) -> None:
    if only_config:
        raise click.UsageError(f"index {found.digest} has no config: name one of its images by its digest")
    if only_manifest:
        write_bytes((found.document, b"\n"))
    else:
        print_document(found.as_dict(), is_original=not session.as_json)
