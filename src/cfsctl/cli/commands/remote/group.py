"""The ``remote`` group."""

from __future__ import annotations

import click

from cfsctl.cli.catalog import REMOTE
from cfsctl.cli.help import CONTEXT_SETTINGS
from cfsctl.cli.lazy import LazyGroup

COMMANDS = {"add": "add", "list": "list_", "remove": "remove", "show": "show"}


@click.group(
    "remote",
    cls=LazyGroup,
    package="cfsctl.cli.commands.remote",
    modules=COMMANDS,
    catalog=REMOTE,
    context_settings=CONTEXT_SETTINGS,
)
def command() -> None:
    """Configure remotes: names for URLs, and the keys that their commits must be signed with.

    The files are those of libostree, so the ostree client of the system knows the same remotes.
    """
