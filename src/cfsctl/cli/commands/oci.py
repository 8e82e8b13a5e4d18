"""The ``oci`` group."""

from __future__ import annotations

import click

from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "compute-id": "oci_compute_id",
    "dump": "oci_dump",
    "fsck": "oci_fsck",
    "images": "oci_images",
    "import-layer": "oci_import_layer",
    "inspect": "oci_inspect",
    "layer": "oci_layer",
    "linked-erofs-images": "oci_linked_erofs_images",
    "mount": "oci_mount",
    "pull": "oci_pull",
    "tag": "oci_tag",
    "untag": "oci_untag",
}


@click.group(
    "oci",
    cls=LazyGroup,
    package="cfsctl.cli.commands",
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Pull, name, inspect, check and mount OCI images."""
