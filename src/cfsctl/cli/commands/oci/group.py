"""The ``oci`` group."""

from __future__ import annotations

import click

from cfsctl.cli.catalog import OCI
from cfsctl.cli.help import CONTEXT_SETTINGS
from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "build": "build",
    "compute-id": "compute_id",
    "copy": "copy",
    "delta": "delta",
    "dump": "dump",
    "fetch": "fetch",
    "fsck": "fsck",
    "history": "history",
    "images": "images",
    "import-layer": "import_layer",
    "inspect": "inspect",
    "layer": "layer",
    "linked-erofs-images": "linked_erofs_images",
    "mount": "mount",
    "prepare-boot": "prepare_boot",
    "pull": "pull",
    "push": "push",
    "rename": "rename",
    "rollback": "rollback",
    "tag": "tag",
    "untag": "untag",
    "varlink": "varlink",
}


@click.group(
    "oci",
    cls=LazyGroup,
    package="cfsctl.cli.commands.oci",
    modules=COMMANDS,
    catalog=OCI,
    context_settings=CONTEXT_SETTINGS,
)
def command() -> None:
    """Pull, build, push, name, inspect, check and mount OCI images."""
