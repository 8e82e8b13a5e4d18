"""The ``image`` group."""

from __future__ import annotations

import click

from cfsctl.cli.catalog import IMAGE
from cfsctl.cli.help import CONTEXT_SETTINGS
from cfsctl.cli.lazy import LazyGroup

COMMANDS = {
    "history": "history",
    "rename": "rename",
    "rollback": "rollback",
    "tag": "tag",
    "untag": "untag",
}


@click.group(
    "image",
    cls=LazyGroup,
    package="cfsctl.cli.commands.image",
    modules=COMMANDS,
    catalog=IMAGE,
    context_settings=CONTEXT_SETTINGS,
)
def command() -> None:
    """Name images, and go back to earlier images of a name."""
