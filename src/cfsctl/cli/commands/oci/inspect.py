"""``cfsctl oci inspect``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import TEXT
from cfsctl.cli.output import print_document, write_bytes

if TYPE_CHECKING:
    from cfsctl.digest import ObjectID


@click.command("inspect")
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.option("--manifest", "only_manifest", is_flag=True, help="Print the manifest, byte for byte.")
@click.option("--config", "only_config", is_flag=True, help="Print the config, byte for byte.")
@pass_session
def command(session: Session, *, image: str, only_manifest: bool, only_config: bool) -> None:
    """Print the manifest and config of IMAGE, and the images that were made from it.

    IMAGE is a tag, the digest of a manifest or config, or a unique prefix of one.
    """
    from cfsctl.oci.store.image_refs import find_image, plain_kind  # noqa: PLC0415 - keeps --help quick
    from cfsctl.oci.store.images import open_found, resolve  # noqa: PLC0415 - the same
    from cfsctl.oci.store.referrers import list_referrers  # noqa: PLC0415 - the same

    if only_manifest and only_config:
        raise click.UsageError("--manifest and --config cannot be used together")
    with session.open_repository() as repository:
        stored = open_found(repository, resolve(repository, image))
        referrers = [str(digest) for digest in list_referrers(repository, stored.digest)]
        kind = plain_kind(repository.erofs_versions[0])
    if only_manifest or only_config:
        document = stored.manifest_document if only_manifest else stored.config_document
        write_bytes((document.data, b"\n"))
        return
    refs = stored.config_document.refs
    print_document(
        {
            "manifest": stored.manifest_document.data.decode("utf-8", "replace"),
            "config": stored.config_document.data.decode("utf-8", "replace"),
            "referrers": referrers,
            "composefs_erofs": _hex(find_image(refs, kind)),
            "composefs_boot_erofs": _hex(find_image(refs, kind._replace(is_bootable=True))),
        }
    )


def _hex(object_id: ObjectID | None) -> str | None:
    return None if object_id is None else object_id.hex()
