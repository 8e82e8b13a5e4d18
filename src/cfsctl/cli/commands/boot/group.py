"""The ``boot`` group."""

from __future__ import annotations

import click

from cfsctl.cli.catalog import BOOT
from cfsctl.cli.help import CONTEXT_SETTINGS
from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "list": "list",
    "prepare": "prepare",
    "remove": "remove",
}


@click.group(
    "boot",
    cls=LazyGroup,
    package="cfsctl.cli.commands.boot",
    modules=COMMANDS,
    catalog=BOOT,
    context_settings=CONTEXT_SETTINGS,
)
def command() -> None:
    """Install, list and remove what this machine boots."""
