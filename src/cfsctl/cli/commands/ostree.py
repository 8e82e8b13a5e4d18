"""The ``ostree`` group."""

from __future__ import annotations

import click

from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "apply-delta": "ostree_apply_delta",
    "commit": "ostree_commit",
    "compute-id": "ostree_compute_id",
    "dump": "ostree_dump",
    "export": "ostree_export",
    "images": "ostree_images",
    "inspect": "ostree_inspect",
    "list-refs": "ostree_list_refs",
    "log": "ostree_log",
    "mount": "ostree_mount",
    "pull": "ostree_pull",
    "pull-local": "ostree_pull_local",
    "tag": "ostree_tag",
    "untag": "ostree_untag",
    "verify": "ostree_verify",
}


@click.group(
    "ostree",
    cls=LazyGroup,
    package="cfsctl.cli.commands",
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Pull, name, inspect and mount OSTree commits."""
