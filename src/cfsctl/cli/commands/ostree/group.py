"""The ``ostree`` group."""

from __future__ import annotations

import click

from cfsctl.cli.catalog import OSTREE
from cfsctl.cli.help import CONTEXT_SETTINGS
from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "apply-delta": "apply_delta",
    "commit": "commit",
    "compute-id": "compute_id",
    "dump": "dump",
    "export": "export",
    "history": "history",
    "images": "images",
    "inspect": "inspect",
    "list-refs": "list_refs",
    "log": "log",
    "mount": "mount",
    "pull": "pull",
    "pull-local": "pull_local",
    "rename": "rename",
    "rollback": "rollback",
    "tag": "tag",
    "untag": "untag",
    "verify": "verify",
}


@click.group(
    "ostree",
    cls=LazyGroup,
    package="cfsctl.cli.commands.ostree",
    modules=COMMANDS,
    catalog=OSTREE,
    context_settings=CONTEXT_SETTINGS,
)
def command() -> None:
    """Pull, name, inspect and mount OSTree commits."""
