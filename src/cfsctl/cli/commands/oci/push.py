"""``cfsctl oci push``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cfsctl.cli.completers import complete_oci_images
from cfsctl.cli.context import Session, pass_session
from cfsctl.cli.options.common import IMAGE_REFERENCE, TEXT, json_option
from cfsctl.cli.options.registry import RegistryArguments, make_registry_settings, registry_options
from cfsctl.cli.output import print_document, print_lines
from cfsctl.progress import Message

if TYPE_CHECKING:
    from typing import Unpack

    from cfsctl.oci.push import PushResult


@click.command("push")
@click.argument("image", type=TEXT, shell_complete=complete_oci_images)
@click.argument("destination", type=IMAGE_REFERENCE)
@click.option(
    "--preserve-digests",
    is_flag=True,
    help="Fail with exit status 14 if the manifest would have to change.",
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
    as_json: bool,
    **registry: Unpack[RegistryArguments],
) -> None:
    """Copy the stored IMAGE to DESTINATION.

    DESTINATION is docker://NAME[:TAG], oci:DIRECTORY[:TAG], oci-archive:FILE[:TAG] or dir:DIRECTORY. The
    config is sent unchanged. Layers are stored uncompressed and must be compressed again unless DESTINATION
    has them; if the result differs from the original, the manifest changes, with a message on standard error.
    """
    from cfsctl.oci.destinations.opening import open_destination  # noqa: PLC0415 - keeps --help quick
    from cfsctl.oci.push import push  # noqa: PLC0415 - the same
    from cfsctl.oci.store.images import open_found, resolve  # noqa: PLC0415 - the same

    settings = make_registry_settings(registry)
    with session.open_repository() as repository:
        stored = open_found(repository, resolve(repository, image))
        target = open_destination(destination, settings)
        try:
            result = push(
                repository, stored, target, preserve_digests=preserve_digests, reporter=session.progress
            )
        finally:
            target.close()
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
            f"blobs    {result.sent} sent ({result.sent_bytes} bytes) + {result.present} already present",
        )
    )


def _document(result: PushResult) -> dict[str, object]:
    return {
        "manifest": str(result.manifest_digest),
        "stored_manifest": str(result.stored_digest),
        "sent_blobs": result.sent,
        "present_blobs": result.present,
        "sent_bytes": result.sent_bytes,
    }
