"""The ``ostree`` group."""

from __future__ import annotations

import click

from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "apply-delta": "apply_delta",
    "commit": "commit",
    "compute-id": "compute_id",
    "dump": "dump",
    "export": "export",
    "images": "images",
    "inspect": "inspect",
    "list-refs": "list_refs",
    "log": "log",
    "mount": "mount",
    "pull": "pull",
    "pull-local": "pull_local",
    "tag": "tag",
    "untag": "untag",
    "verify": "verify",
}


@click.group(
    "ostree",
    cls=LazyGroup,
    package="cfsctl.cli.commands.ostree",
    modules=COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"]},
)
def command() -> None:
    """Pull, name, inspect and mount OSTree commits."""
