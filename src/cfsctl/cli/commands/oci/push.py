"""``cfsctl oci push``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.help import Command
from cfsctl.cli.options.common import IMAGE_REFERENCE, TEXT, json_option
from cfsctl.cli.options.registry import registry_options
from cfsctl.cli.output import print_document, print_lines
from cfsctl.progress import Message

if TYPE_CHECKING:
    import cfsctl
    from cfsctl.library.oci.options import RegistryOptions


@click.command("push", cls=Command)
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("destination", type=IMAGE_REFERENCE)
@click.option(
    "--preserve-digests",
    is_flag=True,
    help="Fail with exit status 14 if the manifest would have to change.",
)
@click.option(
    "--with-referrers",
    is_flag=True,
    help="Also push the stored artifacts about the image, such as signatures.",
)
@registry_options
@json_option()
@pass_session
def command(
    session: Session,
    *,
    image: str,
    destination: str,
    preserve_digests: bool,
    with_referrers: bool,
    as_json: bool,
    registry: RegistryOptions,
) -> None:
    """Copy the stored IMAGE to DESTINATION.

    DESTINATION is docker://NAME[:TAG], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or dir:DIRECTORY. The
    config is sent unchanged. Layers are stored uncompressed and must be compressed again unless DESTINATION
    has them; if the result differs from the original, the manifest changes, with a message on standard error.
    If IMAGE is an index, all of its images are pushed.
    """
    with session.open() as repository:
        result = repository.oci.push(
            image,
            destination,
            preserve_digests=preserve_digests,
            with_referrers=with_referrers,
            registry=registry,
            progress=session.progress,
        )
    if result.manifest_digest != result.stored_digest:
        session.progress(
            Message(
                f"the manifest has changed from {result.stored_digest} to {result.manifest_digest}:"
                " layers were compressed again"
            )
        )
    if as_json:
        print_document(_document(result))
        return
    print_lines(
        (
            f"manifest {result.manifest_digest}",
            f"blobs    {result.sent} sent ({result.sent_bytes} bytes) + {result.present} already present"
            + (f" + {result.mounted} taken from other repositories" if result.mounted else ""),
            *([f"images   {result.images}"] if result.images != 1 else []),
            *([f"referrers {result.referrers}"] if result.referrers else []),
        )
    )


def _document(result: cfsctl.OciPushResult) -> dict[str, object]:
    return {
        "manifest": str(result.manifest_digest),
        "stored_manifest": str(result.stored_digest),
        "sent_blobs": result.sent,
        "present_blobs": result.present,
        "sent_bytes": result.sent_bytes,
        "mounted_blobs": result.mounted,
        "images": result.images,
        "referrers": result.referrers,
    }
